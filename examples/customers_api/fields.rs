//! The fields that a client can set on an object.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest request body in bytes, and so the largest object.
pub const BODY_LEN_MAX: usize = 64 * 1024;
const NAME_LEN_MAX: usize = 200;
/// The longest address that SMTP carries.
const EMAIL_LEN_MAX: usize = 254;

const NO_NAME: &str = "`name` must be a string of 1 to 200 bytes, without control characters";
const NO_EMAIL: &str = "`email` must be an address of at most 254 bytes, such as ann@example.com";

/// The fields of a customer or a vendor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    pub name: Option<String>,
    pub email: Option<String>,
    /// All other fields that the client has sent. Numbers have the precision of 64-bit floating
    /// point.
    pub further: Map<String, Value>,
}

/// What the body of a request asks for.
#[derive(Debug, Default)]
pub struct Wanted {
    pub fields: Fields,
    /// Whether the email address must be verified before the object exists.
    pub verify: bool,
}

impl Wanted {
    /// Parses a body. An empty one asks for an object without fields, as the API's documentation
    /// says. If a field occurs twice, the last one counts.
    pub fn parse(body: &[u8]) -> Result<Self, &'static str> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let Ok(mut further) = serde_json::from_slice::<Map<String, Value>>(body) else {
            return Err("the body must be a JSON object");
        };
        if further.contains_key("id") || further.contains_key("status") {
            return Err("`id` and `status` are set by the server");
        }
        let verify = match further.remove("verify") {
            None => false,
            Some(Value::Bool(verify)) => verify,
            Some(_) => return Err("`verify` must be true or false"),
        };
        let name = text(further.remove("name"), is_name, NO_NAME)?;
        let email = text(further.remove("email"), is_email, NO_EMAIL)?;
        if verify && email.is_none() {
            return Err("`verify` needs an `email`");
        }
        Ok(Self { fields: Fields { name, email, further }, verify })
    }
}

/// The text of a field, if it has one, or the error for an invalid one.
fn text(
    value: Option<Value>,
    is_valid: impl Fn(&str) -> bool,
    refusal: &'static str,
) -> Result<Option<String>, &'static str> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if is_valid(&text) => Ok(Some(text)),
        Some(_) => Err(refusal),
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_LEN_MAX
        && !name.trim().is_empty()
        && !name.contains(|char: char| char.is_control())
}

/// Whether this can be an address. Only a mail that arrives proves that it is one.
fn is_email(email: &str) -> bool {
    let Some((local, domain)) = email.rsplit_once('@') else { return false };
    email.len() <= EMAIL_LEN_MAX
        && !local.is_empty()
        && !local.contains('@')
        && domain.split('.').all(|label| !label.is_empty())
        && !email.contains(|char: char| char.is_control() || char.is_whitespace())
}
