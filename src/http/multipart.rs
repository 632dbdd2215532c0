//! The parts of a multipart body: RFC 2046, section 5.1.

/// The longest that a boundary may be.
const BOUNDARY_LEN_MAX: usize = 70;

/// The parts between these boundaries, each with its own headers. What comes before the first
/// boundary or after the last one isn't a part. `None` if the body isn't a multipart body.
pub(super) fn parts<'b>(body: &'b [u8], boundary: &[u8]) -> Option<Vec<&'b [u8]>> {
    if boundary.is_empty() || BOUNDARY_LEN_MAX < boundary.len() {
        return None;
    }
    let delimiter = [b"--", boundary].concat();
    let (mut parts, mut part_start) = (Vec::new(), None);
    let mut at = 0;
    loop {
        let found = at + find(body.get(at..)?, &delimiter)?;
        at = found + delimiter.len();
        // The line break before a boundary is part of the boundary.
        let before = match found {
            0 => 0,
            _ if body.get(..found)?.ends_with(b"\r\n") => found - 2,
            _ => continue,
        };
        let rest = body.get(at..)?;
        let is_last = rest.starts_with(b"--");
        // Only spaces and tabs may follow a boundary.
        let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        if !is_last && !rest.get(blank..)?.starts_with(b"\r\n") {
            continue;
        }
        if let Some(start) = part_start {
            // An empty part ends where it starts.
            parts.push(body.get(start..before.max(start))?);
        }
        if is_last {
            return Some(parts);
        }
        at += blank;
        part_start = Some(at + 2);
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(body: &str) -> Option<Vec<String>> {
        let parts = parts(body.as_bytes(), b"b")?;
        Some(parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect())
    }

    #[test]
    fn parts_are_what_is_between_the_boundaries() {
        for (body, expected) in [
            ("--b\r\nx\r\n--b--", vec!["x"]),
            ("--b\r\nx\r\n--b\r\ny\r\n\r\nz\r\n--b--\r\n", vec!["x", "y\r\n\r\nz"]),
            ("before\r\n--b  \r\nx\r\n--b-- \r\nbehind\r\n--b\r\n", vec!["x"]),
            ("--b\r\n--b\r\n\r\n--b--", vec!["", ""]),
            ("--b\r\na --b\r\n--bc\r\nz\r\n--b--", vec!["a --b\r\n--bc\r\nz"]),
            ("--b--", vec![]),
        ] {
            assert_eq!(of(body), Some(expected.iter().map(|&part| part.to_owned()).collect()));
        }
    }

    #[test]
    fn what_is_no_multipart_body_has_no_parts() {
        for body in [
            "",
            "x",
            "--b",
            "--b\r\nx",
            "--b\r\nx\r\n--b\r\n",
            "--c\r\nx\r\n--c--",
            "--b\nx\n--b--",
        ] {
            assert_eq!(of(body), None, "{body:?}");
        }
        assert_eq!(parts(b"----", b""), None);
    }

    proptest! {
        /// Bodies that differ only in their boundary have the same parts.
        #[test]
        fn parts_do_not_depend_on_the_boundary(
            parts in prop::collection::vec("[-a\r\n]{0,12}", 0..4),
        ) {
            let build = |boundary: &str| {
                let parts = parts.iter().map(|part| format!("--{boundary}\r\n{part}\r\n"));
                parts.chain([format!("--{boundary}--\r\n")]).collect::<String>()
            };
            for boundary in ["xyz", "XYZ0123456789"] {
                let found = super::parts(build(boundary).as_bytes(), boundary.as_bytes())
                    .map(|found| found.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
                let expected: Vec<_> = parts.iter().map(|part| part.clone().into_bytes()).collect();
                prop_assert_eq!(found, Some(expected));
            }
        }

        #[test]
        fn no_body_makes_it_panic(body in "[-b\r\n x]{0,40}") {
            let _ = of(&body);
        }
    }
}
