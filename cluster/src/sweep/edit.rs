//! Keys of a job file set to other values; everything else, comments included, stays as it was written.

use toml_edit::{DocumentMut, Item, Value};

use crate::job::BadValue;

/// The text with `keys` set. Tables that are not there are made; numbers in a key are items of lists.
///
/// # Errors
/// A key that leads through something that is no table, or to an item that a list does not have.
pub fn with(text: &str, keys: &[(&str, toml::Value)]) -> Result<String, BadValue> {
    let parsed: Result<DocumentMut, _> = text.parse();
    let mut document = parsed.map_err(|e| BadValue::wrong("schema", e.message()))?;
    for (key, value) in keys {
        let place = place(document.as_item_mut(), key)?;
        let literal: Value = value.to_string().parse().map_err(|_| BadValue::new(*key, value, "a TOML value"))?;
        match place.as_value_mut() {
            // What stands around the old value (a comment at the end of the line) stays.
            Some(old) => {
                let decor = old.decor().clone();
                *old = literal;
                *old.decor_mut() = decor;
            }
            None => *place = Item::Value(literal),
        }
    }
    Ok(document.to_string())
}

fn place<'a>(root: &'a mut Item, key: &str) -> Result<&'a mut Item, BadValue> {
    let mut item = root;
    let mut done = String::new();
    for part in key.split('.') {
        let before = done.clone();
        done = if done.is_empty() { part.to_owned() } else { format!("{done}.{part}") };
        if let Ok(index) = part.parse::<usize>()
            && (item.is_array() || item.is_array_of_tables())
        {
            let n = item.as_array().map_or_else(|| item.as_array_of_tables().map_or(0, |a| a.len()), |a| a.len());
            item = item
                .get_mut(index)
                .ok_or_else(|| BadValue::wrong(&before, format!("has {n} items, no item {index}")))?;
            continue;
        }
        if !item.is_table_like() && !item.is_none() {
            return Err(BadValue::wrong(&before, format!("is no table, so it has no '{part}'")));
        }
        item = &mut item[part];
    }
    if item.is_table() || item.is_array_of_tables() {
        return Err(BadValue::wrong(key, "is a table; name one of its keys"));
    }
    Ok(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str =
        "# A job.\nschema = 1\n\n[problem] # it\nn = 3 # points\nsizes = [1, 2]\n[[problem.axes]]\nkind = \"a\"\n";

    #[test]
    fn only_what_was_asked_for_changes() {
        let text = with(
            BASE,
            &[("problem.n", 5.into()), ("problem.axes.0.kind", "b c".into()), ("problem.sizes.1", 9.into())],
        );
        let expected = BASE.replace("n = 3 #", "n = 5 #").replace("\"a\"", "\"b c\"").replace("[1, 2]", "[1, 9]");
        assert_eq!(text, Ok(expected));
    }

    #[test]
    fn new_keys_are_read_back_as_they_were_set() {
        let values: [(&str, toml::Value); 4] = [
            ("seed", 7.into()),
            ("run.ranks", 2.into()),
            ("problem.tolerance", 1e-300.into()),
            ("problem.names", toml::Value::Array(vec!["it's \"x\"\n".into(), true.into()])),
        ];
        let text = with(BASE, &values).unwrap();
        let table: toml::Table = text.parse().unwrap();
        for (key, value) in &values {
            let mut found = &toml::Value::Table(table.clone());
            for part in key.split('.') {
                found = &found[part];
            }
            assert_eq!(found, value, "{text}");
            let _ = found;
        }
    }

    #[test]
    fn keys_that_lead_nowhere_are_named() {
        let refused = |key: &str| with(BASE, &[(key, 1.into())]).unwrap_err().to_string();
        assert_eq!(refused("problem.n.x"), "problem.n: is no table, so it has no 'x'");
        assert_eq!(refused("problem.axes.3.kind"), "problem.axes: has 1 items, no item 3");
        assert_eq!(refused("problem"), "problem: is a table; name one of its keys");
    }
}
