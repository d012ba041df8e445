//! Memory that steps use again: a step needs as much as the one before it, and fresh pages cost more than many a loop over them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::learning::real::Real;

/// Lists of numbers that nobody needs, by length.
#[derive(Debug, Default)]
pub struct Pool<T>(Mutex<HashMap<usize, Vec<Vec<T>>>>);

impl<T: Real> Pool<T> {
    fn lists(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Vec<Vec<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A list of `len` numbers, any numbers.
    pub fn take(&self, len: usize) -> Vec<T> {
        let known = self.lists().get_mut(&len).and_then(Vec::pop);
        known.unwrap_or_else(|| vec![T::default(); len])
    }

    /// A list of zeros.
    pub fn zeros(&self, len: usize) -> Vec<T> {
        let mut list = self.take(len);
        list.fill(T::default());
        list
    }

    /// For others.
    pub fn give(&self, list: Vec<T>) {
        if !list.is_empty() {
            self.lists().entry(list.len()).or_default().push(list);
        }
    }

    /// Lists that are waiting.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.lists().values().map(Vec::len).sum()
    }

    /// All of a batch.
    pub fn give_all(&self, batch: Vec<Vec<T>>) {
        batch.into_iter().for_each(|list| self.give(list));
    }
}
