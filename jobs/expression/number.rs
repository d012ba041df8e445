//! Numbers that a person may type as expressions.

use serde::{Deserialize, Serialize};

use super::{ExpressionError, Graph, Names};

/// A number, or an expression without variables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Number {
    /// A number.
    Value(f64),
    /// Such as "2*pi".
    Text(String),
}

impl Default for Number {
    fn default() -> Self {
        Self::Value(0.0)
    }
}

impl Number {
    /// Its value.
    ///
    /// # Errors
    /// An expression that cannot be read, or has variables.
    pub fn value(&self) -> Result<f64, ExpressionError> {
        match self {
            Self::Value(value) => Ok(*value),
            Self::Text(text) => {
                let mut graph = Graph::new();
                let node = graph.parse(text, &Names::new())?;
                Ok(graph.eval(node, &[]))
            }
        }
    }
}
