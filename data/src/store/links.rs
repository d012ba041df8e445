//! Following the names of a file that may be hostile: links out of the file are refused, cycles end.

use hdf5::{File, Group, IndexType, IterationOrder, LinkType, LocationToken, LocationType};

/// Nesting of groups that a listing enters.
const MAX_DEPTH: usize = 32;
/// Links that a listing visits.
const MAX_LINKS: usize = 100_000;

/// Where a name leads.
pub(super) enum Target {
    /// To a dataset, a group or the root of this file.
    Here,
    /// Nowhere.
    Missing,
    /// Into another file.
    Outside,
}

/// Follows `name` (with leading slash) link by link from the root.
pub(super) fn follow(file: &File, name: &str) -> hdf5::Result<Target> {
    let own_file = file.loc_info()?.fileno;
    let mut group: Group = file.group("/")?;
    let mut parts = name.split('/').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        match link_type(&group, part)? {
            None => return Ok(Target::Missing),
            Some(LinkType::External) => return Ok(Target::Outside),
            Some(LinkType::Hard | LinkType::Soft) => {}
        }
        // A soft link may dangle, or lead through an external link to another file.
        let Ok(info) = group.loc_info_by_name(part) else {
            return Ok(Target::Missing);
        };
        if info.fileno != own_file {
            return Ok(Target::Outside);
        }
        if parts.peek().is_some() {
            if info.loc_type != LocationType::Group {
                return Ok(Target::Missing);
            }
            group = group.group(part)?;
        }
    }
    Ok(Target::Here)
}

fn link_type(group: &Group, name: &str) -> hdf5::Result<Option<LinkType>> {
    group.find_link(IndexType::Name, IterationOrder::Native, |link, info| Ok((link == name).then_some(info.link_type)))
}

/// Paths of all datasets that hard links reach, each once, in alphabetical order of the walk.
pub(super) fn datasets(file: &File) -> hdf5::Result<Vec<String>> {
    let mut walk = Walk { seen: Vec::new(), names: Vec::new(), links: 0 };
    walk.group(&file.group("/")?, "", 0)?;
    Ok(walk.names)
}

struct Walk {
    /// Groups on the way, so that a cycle of hard links ends.
    seen: Vec<LocationToken>,
    names: Vec<String>,
    links: usize,
}

impl Walk {
    fn group(&mut self, group: &Group, path: &str, depth: usize) -> hdf5::Result<()> {
        let token = group.loc_info()?.token;
        if depth > MAX_DEPTH || self.seen.contains(&token) {
            return Ok(());
        }
        self.seen.push(token);
        let mut hard = Vec::new();
        group.find_link(IndexType::Name, IterationOrder::Increasing, |name, info| {
            self.links += 1;
            if info.link_type == LinkType::Hard {
                hard.push(name.to_owned());
            }
            Ok((self.links >= MAX_LINKS).then_some(()))
        })?;
        for name in hard {
            // A damaged member must not hide the others.
            let Ok(info) = group.loc_info_by_name(&name) else {
                continue;
            };
            let path = format!("{path}/{name}");
            match info.loc_type {
                LocationType::Dataset => self.names.push(path),
                LocationType::Group => {
                    if let Ok(inner) = group.group(&name) {
                        self.group(&inner, &path, depth + 1)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
