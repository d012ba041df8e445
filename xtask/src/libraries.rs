//! Finding the three libraries that the build links or reads, as the build scripts of their crates do.

use std::path::{Path, PathBuf};

use crate::machine::Machine;
use crate::needs::{Answer, Found, Setting};

/// Environment modules say where HDF5 is in one of these.
const HDF5_VARIABLES: [&str; 4] = ["HDF5_ROOT", "HDF5_HOME", "EBROOTHDF5", "CRAY_HDF5_PREFIX"];

/// Where distributions hide an MPI that `module load` would bring to the path.
const MPI_FOLDERS: [&str; 4] =
    ["/usr/lib64/openmpi", "/usr/lib64/mpich", "/usr/lib64/mpi/gcc", "/opt/homebrew/opt/open-mpi"];

/// libhdf5 with headers: `HDF5_DIR`, a loaded module, pkg-config, the usual folders, h5cc, conda.
pub fn hdf5(machine: &dyn Machine) -> Answer {
    if let Some(prefix) = machine.variable("HDF5_DIR") {
        let header = Header::below(machine, Path::new(&prefix));
        return header
            .map(Header::found)
            .ok_or(format!("HDF5_DIR={prefix} has no include/H5pubconf.h: correct or unset it"));
    }
    let loaded = HDF5_VARIABLES.iter().filter_map(|name| machine.variable(name)).map(PathBuf::from);
    if let Some(found) = loaded.into_iter().find_map(|prefix| with_prefix(machine, &prefix)) {
        return Ok(found);
    }
    // What the build script finds by itself comes first, so that `cargo build` alone agrees with us.
    let debian = debian_serial(machine);
    let pkg_config = pkg_config_folder(machine, "hdf5").and_then(|include| Header::in_folder(machine, &include));
    let usual = ["/usr/include/hdf5/serial", "/usr/include"].map(PathBuf::from);
    let usual = || usual.iter().find_map(|include| Header::in_folder(machine, include));
    match (pkg_config, debian) {
        (Some(header), Some(serial)) if header.parallel => Ok(instead_of_parallel(machine, &serial)),
        (Some(header), _) => Ok(header.found()),
        (None, Some(serial)) if !serial.starts_with("/usr/lib/x86_64-linux-gnu") => {
            with_prefix(machine, &serial).ok_or("no H5pubconf.h".into())
        }
        _ => usual().map(Header::found).or_else(|| elsewhere(machine)).ok_or_else(|| {
            "no H5pubconf.h: asked HDF5_DIR, loaded modules, pkg-config, /usr/include, h5cc, conda".to_owned()
        }),
    }
}

/// Both packages of Debian are there, and pkg-config prefers the one that drags MPI into every program.
fn instead_of_parallel(machine: &dyn Machine, serial: &Path) -> Found {
    let mut found = with_prefix(machine, serial).unwrap_or_default();
    found.settings.retain(|setting| setting.name == "HDF5_DIR");
    found.note = Some("serial and parallel HDF5 are installed, and the build would link the parallel one".into());
    found
}

fn with_prefix(machine: &dyn Machine, prefix: &Path) -> Option<Found> {
    let mut found = Header::below(machine, prefix)?.found();
    found.settings.push(Setting::set("HDF5_DIR", prefix.display().to_string()));
    if !prefix.starts_with("/usr/lib") {
        found.settings.push(Setting::prepend("LD_LIBRARY_PATH", prefix.join("lib").display().to_string()));
    }
    Some(found)
}

fn elsewhere(machine: &dyn Machine) -> Option<Found> {
    let h5cc = machine.program("h5cc").and_then(|path| Some(path.parent()?.parent()?.to_owned()));
    let conda = machine.variable("CONDA_PREFIX").map(PathBuf::from);
    let brew = ["/opt/homebrew/opt/hdf5", "/usr/local/opt/hdf5", "/usr/local"].map(PathBuf::from);
    h5cc.into_iter().chain(conda).chain(brew).find_map(|prefix| with_prefix(machine, &prefix))
}

/// `/usr/lib/<architecture>/hdf5/serial`, which has `include` and `lib`.
fn debian_serial(machine: &dyn Machine) -> Option<PathBuf> {
    let roots = machine.entries(Path::new("/usr/lib")).into_iter().map(|folder| folder.join("hdf5/serial"));
    roots.into_iter().find(|root| Header::below(machine, root).is_some())
}

/// The first `-I` of a pkg-config package.
fn pkg_config_folder(machine: &dyn Machine, package: &str) -> Option<PathBuf> {
    let flags = machine.output("pkg-config", &["--cflags-only-I", package])?;
    flags.split_whitespace().find_map(|flag| flag.strip_prefix("-I")).map(PathBuf::from)
}

/// What `H5pubconf.h` says.
struct Header {
    folder: PathBuf,
    version: String,
    parallel: bool,
}

impl Header {
    fn in_folder(machine: &dyn Machine, folder: &Path) -> Option<Self> {
        let text = ["H5pubconf.h", "H5pubconf-64.h"].iter().find_map(|name| machine.text(&folder.join(name)))?;
        let value = |name: &str| {
            let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            words.into_iter().find(|w| w.len() == 3 && w[..2] == ["#define", name]).map(|w| w[2].to_owned())
        };
        let version = value("H5_VERSION").map(|v| v.trim_matches('"').to_owned()).unwrap_or("?".into());
        let parallel = value("H5_HAVE_PARALLEL").is_some_and(|v| v == "1");
        Some(Self { folder: folder.to_owned(), version, parallel })
    }

    fn below(machine: &dyn Machine, prefix: &Path) -> Option<Self> {
        Self::in_folder(machine, &prefix.join("include"))
    }

    fn found(self) -> Found {
        let kind = if self.parallel { "parallel" } else { "serial" };
        let note = "this HDF5 is a parallel one: it works, and every program links its MPI".to_owned();
        Found {
            what: format!("{} ({kind}), {}", self.version, self.folder.display()),
            note: self.parallel.then_some(note),
            ..Found::default()
        }
    }
}

/// mpicc and a launcher: on the path, or where distributions hide them.
pub fn mpi(machine: &dyn Machine) -> Answer {
    let mpicc = machine.variable("MPICC").unwrap_or("mpicc".into());
    let cray = machine.variable("CRAY_MPICH_DIR");
    if machine.program(&mpicc).is_some() || machine.exists(Path::new(&mpicc)) || cray.is_some() {
        let launcher = ["mpirun", "srun"].into_iter().find(|name| machine.program(name).is_some());
        let launcher = launcher.ok_or("mpicc is there, mpirun is not")?;
        let version = machine.first_line(launcher, &["--version"]).unwrap_or_default();
        let compiler = if cray.is_some() { "Cray MPICH" } else { &mpicc };
        let note = (launcher == "srun").then(|| "no mpirun: start ranks with srun".to_owned());
        return Ok(Found { what: format!("{version}, {compiler}"), note, ..Found::default() });
    }
    let folders = MPI_FOLDERS.iter().flat_map(|folder| {
        let folder = PathBuf::from(folder);
        std::iter::once(folder.clone()).chain(machine.entries(&folder))
    });
    let hidden = folders.into_iter().find(|folder| machine.exists(&folder.join("bin/mpicc")));
    let hidden = hidden.ok_or("no mpicc and mpirun on the path")?;
    let libraries = ["lib64", "lib"].map(|name| hidden.join(name)).into_iter().find(|path| machine.exists(path));
    let path = Setting::prepend("PATH", hidden.join("bin").display().to_string());
    let libraries = libraries.map(|path| Setting::prepend("LD_LIBRARY_PATH", path.display().to_string()));
    Ok(Found {
        what: hidden.display().to_string(),
        settings: std::iter::once(path).chain(libraries).collect(),
        note: Some("this MPI is not on the path; `module load mpi` may do the same".into()),
    })
}

/// libclang and, for `stddef.h`, its headers or those of gcc.
pub fn libclang(machine: &dyn Machine) -> Answer {
    let (library, set) =
        libclang_file(machine).ok_or("no libclang.so: asked LIBCLANG_PATH, llvm-config, /usr, conda")?;
    let folder = library.parent().unwrap_or(Path::new("/")).to_owned();
    let mut found = Found { what: library.display().to_string(), ..Found::default() };
    if set {
        found.settings.push(Setting::set("LIBCLANG_PATH", folder.display().to_string()));
    }
    if !has_headers(machine, &folder) && machine.variable("BINDGEN_EXTRA_CLANG_ARGS").is_none() {
        let include = machine.first_line("gcc", &["-print-file-name=include"]).filter(|path| path.starts_with('/'));
        let include = include.ok_or(format!("{} has no stddef.h, and there is no gcc", library.display()))?;
        found.settings.push(Setting::set("BINDGEN_EXTRA_CLANG_ARGS", format!("-I{include}")));
        found.note = Some("libclang came without its C headers: those of gcc are used".into());
    }
    Ok(found)
}

/// The library, and whether `LIBCLANG_PATH` must say where it is.
fn libclang_file(machine: &dyn Machine) -> Option<(PathBuf, bool)> {
    let in_folder = |folder: &Path| machine.entries(folder).into_iter().find(|path| is_libclang(path));
    if let Some(path) = machine.variable("LIBCLANG_PATH").map(PathBuf::from) {
        return if is_libclang(&path) { Some((path, false)) } else { in_folder(&path).map(|file| (file, false)) };
    }
    if let Some(file) =
        machine.first_line("llvm-config", &["--libdir"]).and_then(|folder| in_folder(Path::new(&folder)))
    {
        return Some((file, false));
    }
    let llvm = machine.entries(Path::new("/usr/lib")).into_iter().rev();
    let llvm = llvm.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("llvm")));
    let triples =
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"];
    let usual =
        llvm.map(|path| path.join("lib")).chain(triples.map(PathBuf::from)).find_map(|folder| in_folder(&folder));
    let known = usual.map(|file| (file, false));
    let macos = ["/Library/Developer/CommandLineTools/usr/lib", "/opt/homebrew/opt/llvm/lib"].map(PathBuf::from);
    let conda = machine.variable("CONDA_PREFIX").map(|prefix| Path::new(&prefix).join("lib"));
    known.or_else(|| conda.into_iter().chain(macos).find_map(|folder| Some((in_folder(&folder)?, true))))
}

/// `libclang.so`, `libclang.so.1`, `libclang-14.so.1`, `libclang.dylib`; not `libclang-cpp.so`.
fn is_libclang(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some(rest) = name.strip_prefix("libclang") else { return false };
    let version = rest.strip_prefix('-').map(|r| r.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'));
    let is_shared = |rest: &str| rest == ".so" || rest.starts_with(".so.") || rest == ".dylib";
    is_shared(rest) || version.is_some_and(|v| v == "so" || v.starts_with("so."))
}

/// libclang looks for its own `stddef.h` beside itself, in `clang/<version>/include`.
fn has_headers(machine: &dyn Machine, folder: &Path) -> bool {
    let llvm = machine.entries(Path::new("/usr/lib")).into_iter().map(|path| path.join("lib/clang"));
    let places = [folder.join("clang"), "/usr/lib/clang".into(), "/usr/lib64/clang".into()].into_iter().chain(llvm);
    let mut versions = places.flat_map(|place| machine.entries(&place));
    versions.any(|version| machine.exists(&version.join("include/stddef.h")))
}

#[cfg(test)]
mod tests;
