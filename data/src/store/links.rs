//! Following the names of a file that may be hostile: links out of the file are refused, cycles end.

use std::collections::HashSet;

use hdf5::{File, Group, IndexType, IterationOrder, LinkType, LocationType};

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

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A group.
    Group,
    /// A dataset.
    Dataset,
    /// A named datatype.
    Type,
    /// A link that the walk does not follow: it may lead anywhere, or nowhere.
    Soft,
    /// A link into another file, or of a kind that only its own program can follow.
    External,
    /// An object whose header cannot be read.
    Damaged,
}

/// All links of a file.
pub(super) struct Tree {
    /// Path and what is there; each group is entered once, in alphabetical order of the walk.
    pub(super) links: Vec<(String, Found)>,
    /// Why the walk did not see everything.
    pub(super) cut: Option<String>,
}

/// Walks the whole file along hard links.
pub(super) fn walk(file: &File) -> hdf5::Result<Tree> {
    let mut walk = Walk { seen: HashSet::new(), tree: Tree { links: Vec::new(), cut: None } };
    walk.group(&file.group("/")?, "", 0)?;
    Ok(walk.tree)
}

/// Paths of all datasets that hard links reach, each once, in alphabetical order of the walk.
pub(super) fn datasets(file: &File) -> hdf5::Result<Vec<String>> {
    let found = walk(file)?.links.into_iter();
    Ok(found.filter(|(_, found)| *found == Found::Dataset).map(|(name, _)| name).collect())
}

struct Walk {
    /// Groups that were entered, so that a cycle of hard links ends. Tokens compare, but do not
    /// hash: their text does.
    seen: HashSet<String>,
    tree: Tree,
}

impl Walk {
    fn group(&mut self, group: &Group, path: &str, depth: usize) -> hdf5::Result<()> {
        if !self.seen.insert(format!("{:?}", group.loc_info()?.token)) {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            self.tree.cut = Some(format!("groups nested deeper than {MAX_DEPTH} levels"));
            return Ok(());
        }
        let mut room = MAX_LINKS.saturating_sub(self.tree.links.len());
        let mut links = Vec::new();
        let more = group.find_link(IndexType::Name, IterationOrder::Increasing, |name, info| {
            if room == 0 {
                return Ok(Some(()));
            }
            room -= 1;
            links.push((name.to_owned(), info.link_type));
            Ok(None)
        })?;
        if more.is_some() {
            self.tree.cut = Some(format!("more than {MAX_LINKS} objects"));
        }
        for (name, link) in links {
            if self.tree.links.len() >= MAX_LINKS {
                self.tree.cut = Some(format!("more than {MAX_LINKS} objects"));
                return Ok(());
            }
            let path = format!("{path}/{name}");
            let found = match link {
                LinkType::Hard => Self::kind(group, &name),
                LinkType::Soft => Found::Soft,
                LinkType::External => Found::External,
            };
            self.tree.links.push((path.clone(), found));
            // A damaged member must not hide the others.
            if found == Found::Group
                && let Ok(inner) = group.group(&name)
            {
                self.group(&inner, &path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn kind(group: &Group, name: &str) -> Found {
        match group.loc_info_by_name(name).map(|info| info.loc_type) {
            Ok(LocationType::Group) => Found::Group,
            Ok(LocationType::Dataset) => Found::Dataset,
            Ok(_) => Found::Type,
            Err(_) => Found::Damaged,
        }
    }
}
