//! Asking for values and telling them: designs of earlier runs, the values at their points, fits, and what to add next.

pub mod earlier;
pub mod margin;
pub mod regression;
mod report;
pub mod values;
