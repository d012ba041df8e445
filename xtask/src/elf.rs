//! What binaries need from the machine that they will run on: shared libraries and a version of glibc.

/// Libraries that belong to glibc, which is one with the machine's loader.
const GLIBC: [&str; 12] = [
    "libc.so.6",
    "libm.so.6",
    "libmvec.so.1",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libresolv.so.2",
    "libutil.so.1",
    "libnsl.so.1",
    "libanl.so.1",
    "libnss_files.so.2",
    "libnss_dns.so.2",
];

/// A line of ldd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The name that programs ask for.
    pub name: String,
    /// Its file, if there is one.
    pub path: Option<String>,
}

/// Shared libraries in the output of ldd, without the loader and what the kernel provides.
pub fn libraries(ldd: &str) -> Vec<Library> {
    let parse = |line: &str| {
        let (name, rest) = line.trim().split_once(" => ")?;
        let path = rest.split(" (").next().filter(|path| path.starts_with('/')).map(str::to_owned);
        Some(Library { name: name.to_owned(), path })
    };
    ldd.lines().filter_map(parse).collect()
}

/// True for the libraries of glibc.
pub fn is_glibc(name: &str) -> bool {
    GLIBC.contains(&name) || name.starts_with("ld-linux")
}

/// The newest glibc that the output of `readelf --version-info` asks for, as (major, minor).
pub fn glibc_version(readelf: &str) -> Option<(u32, u32)> {
    let versions = readelf.split("GLIBC_").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let mut numbers = rest[..end].split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    versions.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LDD: &str = "\tlinux-vdso.so.1 (0x00007ffd)
\tlibhdf5_serial.so.103 => /lib/x86_64-linux-gnu/libhdf5_serial.so.103 (0x00007f01)
\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f02)
\tlibgone.so.1 => not found
\t/lib64/ld-linux-x86-64.so.2 (0x00007f03)
";

    #[test]
    fn libraries_have_a_file_or_are_known_to_lack_one() {
        let libraries = libraries(LDD);
        assert_eq!(libraries.len(), 3);
        assert_eq!(libraries[0].path.as_deref(), Some("/lib/x86_64-linux-gnu/libhdf5_serial.so.103"));
        assert_eq!((libraries[2].name.as_str(), &libraries[2].path), ("libgone.so.1", &None));
    }

    #[test]
    fn glibc_is_not_copied_beside_the_others() {
        assert!(is_glibc("libm.so.6") && is_glibc("ld-linux-x86-64.so.2"));
        assert!(!is_glibc("libmpi.so.40") && !is_glibc("libstdc++.so.6") && !is_glibc("libgcc_s.so.1"));
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let text =
            "  0x0010:   Name: GLIBC_2.9  Flags: none\n 0x20: Name: GLIBC_2.34\n Name: GLIBC_2.2.5\n GLIBC_PRIVATE\n";
        assert_eq!(glibc_version(text), Some((2, 34)));
        assert_eq!(glibc_version("nothing"), None);
    }
}
