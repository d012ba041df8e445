//! A value of a job file that is a number, or a word for how the data choose it.

use serde::de::{Error, IntoDeserializer, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A number, or how it is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Setting<C> {
    /// As given.
    Given(f64),
    /// Searched for.
    Chosen(C),
}

/// Ways to choose a number, which have words.
pub trait Words {
    /// What may stand there.
    const EXPECTED: &'static str;
}

impl<C> Setting<C> {
    /// The number, if it is given.
    pub fn given(&self) -> Option<f64> {
        match self {
            Self::Given(value) => Some(*value),
            Self::Chosen(_) => None,
        }
    }
}

impl<'de, C: Deserialize<'de> + Words> Deserialize<'de> for Setting<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<C>(std::marker::PhantomData<C>);
        impl<'de, C: Deserialize<'de> + Words> Visitor<'de> for Either<C> {
            type Value = Setting<C>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(C::EXPECTED)
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Setting<C>, E> {
                Ok(Setting::Given(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Setting<C>, E> {
                Ok(Setting::Given(value as f64))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Setting<C>, E> {
                Ok(Setting::Given(value as f64))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Setting<C>, E> {
                let word: Result<C, serde::de::value::Error> = C::deserialize(value.into_deserializer());
                word.map(Setting::Chosen).map_err(|_| E::invalid_value(Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(Either(std::marker::PhantomData))
    }
}
