//! Everything that values show of themselves, kept for the search.

use std::any::type_name;
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Debug;

#[derive(Default)]
pub struct Shown {
    /// What was shown, by the type that showed it.
    pub texts: Vec<(String, String)>,
    /// The enums and their variants that were shown.
    pub variants: BTreeSet<(String, String)>,
    /// The store's secret, as it was shown.
    pub store_key: Vec<u8>,
}

impl Shown {
    /// Records the `Debug` of a value, in both of its forms and with hexadecimal numbers.
    pub fn value<T: Debug>(&mut self, value: &T) {
        let name = base_name(type_name::<T>());
        let debug = format!("{value:?}");
        let variant: String = debug.chars().take_while(|c| c.is_alphanumeric()).collect();
        self.variants.insert((name.clone(), variant));
        self.texts.push((name.clone(), debug));
        self.texts.push((name.clone(), format!("{value:#?}")));
        self.texts.push((name, format!("{value:x?}")));
    }

    /// Records everything that an error says, including its sources.
    pub fn error<T: Error>(&mut self, error: &T) {
        self.value(error);
        let name = base_name(type_name::<T>());
        self.texts.push((name.clone(), format!("{error} {error:#}")));
        let mut source = error.source();
        while let Some(error) = source {
            self.texts.push((name.clone(), format!("{error} {error:#} {error:?} {error:#?}")));
            source = error.source();
        }
    }

    pub fn types(&self) -> BTreeSet<String> {
        self.texts.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// The name of a type without its path and its parameters.
fn base_name(name: &str) -> String {
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name).to_owned()
}
