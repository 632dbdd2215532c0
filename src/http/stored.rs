//! The bytes of a stored response.
//!
//! Numbers are little-endian. `headers` is a count in four bytes, then for each header its name and
//! its value, each after its length in four bytes.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 2 | status |
//! | | headers |
//! | 4 | length of the body |
//! | | body |
//! | | trailers, as headers |
//!
//! Decoding refuses leftover bytes, and anything that [`encode`] would not have written.

use bytes::Bytes;
use http::header::{
    CONNECTION, DATE, PROXY_AUTHENTICATE, RETRY_AFTER, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::{Body, grpc};
use crate::error::FinishError;
use crate::handle::Completed;
use crate::key::Key;
use crate::store::Store;

const VERSION: u8 = 1;

/// The headers that are left out by default, besides those of a connection.
pub(super) const UNSTORED: [HeaderName; 2] = [DATE, SET_COOKIE];

/// Marks a response that was not made for this request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The headers that belong to a connection, not to the response that it carries.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The headers of a response that are stored, to be sent again unchanged.
pub(super) fn lasting(headers: &HeaderMap, left_out: &[HeaderName]) -> HeaderMap {
    // A connection can have more headers of its own. `Connection` names them.
    let of_connection: Vec<&[u8]> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .collect();
    let lasts = |name: &HeaderName| {
        !HOP_BY_HOP.contains(name)
            && !left_out.contains(name)
            && !of_connection.iter().any(|of| of.eq_ignore_ascii_case(name.as_str().as_bytes()))
    };
    let lasting = headers.iter().filter(|(name, _)| lasts(name));
    lasting.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Marks a response as that of an earlier request. The response is final, so the headers that ask
/// for a retry are removed.
pub(super) fn replayed(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response.headers_mut().remove(RETRY_AFTER);
    response.headers_mut().remove(grpc::PUSHBACK);
    response
}

/// Removes the mark that a service further in has set on its own response: for this layer, the
/// response is the first.
pub(super) fn first(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().remove(REPLAYED);
    response
}

/// The bytes of a response as the layer stores it, for [`Store::complete`] and similar calls. The
/// layer then replays an operation that was completed outside of it. `Date`, `Set-Cookie` and the
/// headers of a connection are left out.
#[must_use]
pub fn encode_response(response: &Response<Bytes>) -> Vec<u8> {
    let headers = lasting(response.headers(), &UNSTORED);
    encode(response.status(), &headers, response.body(), None)
}

/// Decodes a response that the layer or [`encode_response`] has stored: status, headers and body,
/// without trailers. `None` if the bytes aren't a stored response.
///
/// ```
/// use bytes::Bytes;
/// use http::Response;
/// use idemstore::http::{decode_response, encode_response};
///
/// let receipt = Response::new(Bytes::from("receipt 17"));
/// let stored = decode_response(&encode_response(&receipt)).expect("it is one");
/// assert_eq!(stored.body(), "receipt 17");
/// assert!(decode_response(b"receipt 17").is_none());
/// ```
#[must_use]
pub fn decode_response(bytes: &[u8]) -> Option<Response<Bytes>> {
    let (response, _) = decode_parts(bytes)?;
    Some(response)
}

impl Store {
    /// Completes the operation of a key with a response, as the HTTP layer would: retries get this
    /// response. Use it for an operation that the handler has left
    /// ([`Operation::leave`](super::Operation::leave)), or for one that was interrupted and has
    /// since ended elsewhere. The key must be in the scope that the layer uses.
    ///
    /// # Errors
    ///
    /// The same as [`Store::complete`].
    pub async fn complete_response(
        &self,
        key: &Key,
        response: &Response<Bytes>,
    ) -> Result<Completed, FinishError> {
        self.complete_async(key, encode_response(response)).await
    }
}

/// The bytes of a response.
pub(super) fn encode(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    trailers: Option<&HeaderMap>,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 256);
    bytes.push(VERSION);
    bytes.extend(status.as_u16().to_le_bytes());
    put_headers(&mut bytes, headers);
    put(&mut bytes, body);
    put_headers(&mut bytes, trailers.unwrap_or(&HeaderMap::new()));
    bytes
}

fn put_headers(bytes: &mut Vec<u8>, headers: &HeaderMap) {
    put_number(bytes, headers.len());
    for (name, value) in headers {
        put(bytes, name.as_str().as_bytes());
        put(bytes, value.as_bytes());
    }
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    put_number(bytes, part.len());
    bytes.extend_from_slice(part);
}

/// If a part is too long for a four-byte length, no store accepts the value, so what is written
/// here doesn't matter.
fn put_number(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

/// The response in these bytes, if they are one.
pub(super) fn decode(bytes: &[u8]) -> Option<Response<Body>> {
    let (response, trailers) = decode_parts(bytes)?;
    Some(response.map(|body| Body::whole(body, trailers)))
}

fn decode_parts(bytes: &[u8]) -> Option<(Response<Bytes>, Option<HeaderMap>)> {
    let mut rest = Rest(bytes);
    if rest.array::<1>()? != [VERSION] {
        return None;
    }
    let status = StatusCode::from_u16(u16::from_le_bytes(rest.array()?)).ok()?;
    let headers = rest.headers()?;
    let body = Bytes::copy_from_slice(rest.part()?);
    let trailers = rest.headers()?;
    if !rest.0.is_empty() {
        return None;
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Some((response, Some(trailers).filter(|trailers| !trailers.is_empty())))
}

/// What is left to decode.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn array<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn number(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?;
        let (part, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(part)
    }

    /// Reserves nothing for the count: each header is read before it takes memory.
    fn headers(&mut self) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        for _ in 0..self.number()? {
            let name = self.part()?;
            let value = HeaderValue::from_bytes(self.part()?).ok()?;
            let parsed = HeaderName::from_bytes(name).ok()?;
            // A stored header name has one spelling only.
            (parsed.as_str().as_bytes() == name).then_some(())?;
            headers.try_append(parsed, value).ok()?;
        }
        Some(headers)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;
    use crate::http::body::{Read, Whole};
    use crate::local::codec::from_hex;

    fn headers(pairs: &[(&str, &[u8])]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).expect("it is a name");
                (name, HeaderValue::from_bytes(value).expect("it is a value"))
            })
            .collect()
    }

    /// Encodes again what [`decode`] has returned.
    fn again(response: Response<Body>) -> Vec<u8> {
        let (parts, body) = response.into_parts();
        let read = pin!(body.read(usize::MAX)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Ok(Read::Whole(Whole { data, trailers }))) = read else {
            panic!("it is there")
        };
        encode(parts.status, &parts.headers, &data, trailers.as_ref())
    }

    #[test]
    fn the_bytes_of_a_response_stay_as_they_are() {
        let fields = headers(&[("content-type", b"text/plain"), ("x", b"1"), ("x", b"\xff")]);
        let trailers = headers(&[("grpc-status", b"0")]);
        let bytes = encode(StatusCode::CREATED, &fields, b"paid", Some(&trailers));
        let golden = concat!(
            "01c900",
            "03000000",
            "0c000000636f6e74656e742d747970650a000000746578742f706c61696e",
            "0100000078",
            "0100000031",
            "0100000078",
            "01000000ff",
            "0400000070616964",
            "01000000",
            "0b000000677270632d7374617475730100000030",
        );
        assert_eq!(bytes, from_hex(golden));
        assert_eq!(again(decode(&bytes).expect("it is a response")), bytes);
        let empty = encode(StatusCode::NO_CONTENT, &HeaderMap::new(), b"", None);
        assert_eq!(empty, from_hex("01cc00000000000000000000000000"));
    }

    #[test]
    fn whatever_is_not_a_response_is_refused() {
        let fields = headers(&[("content-type", b"text/plain")]);
        let whole = encode(StatusCode::OK, &fields, b"body", Some(&fields));
        assert!(decode(&whole).is_some());
        for len in 0..whole.len() {
            assert!(decode(&whole[..len]).is_none(), "it was cut at {len}");
        }
        assert!(decode(&[&whole[..], b"x"].concat()).is_none(), "there is more");
        for (wrong, at, byte) in [
            ("another version", 0, 2),
            ("no status", 2, 0xff),
            ("a name in upper case", 11, b'C'),
            ("no name", 11, b' '),
            ("no value", 27, b'\n'),
            ("a count of headers that are not there", 6, 0xff),
        ] {
            let mut damaged = whole.clone();
            assert_ne!(damaged[at], byte, "{wrong} changes nothing");
            damaged[at] = byte;
            assert!(decode(&damaged).is_none(), "{wrong} was taken");
        }
    }

    #[test]
    fn headers_of_a_connection_are_left_out() {
        let all = headers(&[
            ("connection", b"close, X-Hop"),
            ("x-hop", b"1"),
            ("transfer-encoding", b"chunked"),
            ("keep-alive", b"1"),
            ("date", b"now"),
            ("location", b"/orders/1"),
        ]);
        let left = lasting(&all, &[DATE]);
        assert_eq!(left, headers(&[("location", b"/orders/1")]));
    }

    fn any_headers() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
        let value = prop::collection::vec(prop_oneof![32..127_u8, 128..=255_u8], 0..9);
        prop::collection::vec(("[a-z][a-z0-9-]{0,5}", value), 0..5)
    }

    proptest! {
        #[test]
        fn a_response_is_decoded_as_it_was(
            status in 100..1000_u16,
            fields in any_headers(),
            body in prop::collection::vec(any::<u8>(), 0..64),
            trailers in any_headers(),
        ) {
            let map = |pairs: &[(String, Vec<u8>)]| {
                let pairs: Vec<_> = pairs.iter().map(|(n, v)| (&n[..], &v[..])).collect();
                headers(&pairs)
            };
            let (fields, trailers) = (map(&fields), map(&trailers));
            let status = StatusCode::from_u16(status).expect("it is one");
            let bytes = encode(status, &fields, &body, Some(&trailers));
            let response = decode(&bytes).expect("it is a response");
            prop_assert_eq!(response.status(), status);
            prop_assert_eq!(response.headers(), &fields);
            prop_assert_eq!(again(response), bytes);
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_is_what_another_response_has() {
        let fields = headers(&[("etag", b"1"), ("x", b"2")]);
        let whole = encode(StatusCode::OK, &fields, b"body", Some(&fields));
        let (mut refused, mut taken) = (0, 0);
        for (at, byte) in (0..whole.len()).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
            let mut changed = whole.clone();
            changed[at] = byte;
            match decode(&changed) {
                None => refused += 1,
                Some(response) => {
                    assert_eq!(again(response), changed);
                    taken += 1;
                }
            }
        }
        assert!(1000 < refused && 1000 < taken, "{refused} and {taken}");
    }
}
