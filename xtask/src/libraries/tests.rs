//! Detection on invented machines.

use super::*;
use crate::machine::invented::Invented;

const SERIAL: &str = "#define H5_VERSION \"1.10.8\"\n/* #undef H5_HAVE_PARALLEL */\n";
const PARALLEL: &str = "#define H5_HAVE_PARALLEL 1\n#define H5_VERSION \"1.10.8\"\n";
const DEBIAN_SERIAL: &str = "/usr/lib/x86_64-linux-gnu/hdf5/serial/include/H5pubconf.h";

fn names(found: &Found) -> Vec<&'static str> {
    found.settings.iter().map(|setting| setting.name).collect()
}

fn debian() -> Invented {
    Invented::default().file("/usr/include/hdf5/serial/H5pubconf.h", SERIAL).file(DEBIAN_SERIAL, SERIAL)
}

#[test]
fn debians_serial_hdf5_needs_no_setting() {
    let found = hdf5(&debian()).unwrap();
    assert_eq!(found.what, "1.10.8 (serial), /usr/include/hdf5/serial");
    assert!(found.settings.is_empty() && found.note.is_none());
}

#[test]
fn beside_a_parallel_hdf5_the_serial_one_is_named() {
    let machine = debian()
        .file("/usr/include/hdf5/openmpi/H5pubconf.h", PARALLEL)
        .answer("pkg-config --cflags-only-I hdf5", "-I/usr/include/hdf5/openmpi \n");
    let found = hdf5(&machine).unwrap();
    assert_eq!(found.settings, [Setting::set("HDF5_DIR", "/usr/lib/x86_64-linux-gnu/hdf5/serial")]);
    assert!(found.what.contains("serial") && found.note.unwrap().contains("parallel"));
}

#[test]
fn a_parallel_hdf5_alone_is_used_and_said() {
    let machine = Invented::default()
        .file("/usr/include/hdf5/openmpi/H5pubconf.h", PARALLEL)
        .answer("pkg-config --cflags-only-I hdf5", "-I/usr/include/hdf5/openmpi");
    let found = hdf5(&machine).unwrap();
    assert!(found.settings.is_empty() && found.what.contains("parallel") && found.note.is_some());
}

#[test]
fn on_other_architectures_debians_hdf5_is_named() {
    let machine = Invented::default().file("/usr/lib/aarch64-linux-gnu/hdf5/serial/include/H5pubconf.h", SERIAL);
    assert_eq!(names(&hdf5(&machine).unwrap()), ["HDF5_DIR"]);
}

#[test]
fn fedoras_hdf5_and_a_wrong_hdf5_dir() {
    let machine = Invented::default().file("/usr/include/H5pubconf-64.h", SERIAL);
    assert!(hdf5(&machine).unwrap().settings.is_empty());
    assert_eq!(
        hdf5(&machine.variable("HDF5_DIR", "/no")).unwrap_err(),
        "HDF5_DIR=/no has no include/H5pubconf.h: correct or unset it"
    );
}

#[test]
fn a_loaded_module_comes_before_the_system() {
    let machine = debian().variable("EBROOTHDF5", "/apps/hdf5").file("/apps/hdf5/include/H5pubconf.h", SERIAL);
    let found = hdf5(&machine).unwrap();
    assert_eq!(names(&found), ["HDF5_DIR", "LD_LIBRARY_PATH"]);
    assert_eq!(found.settings[0].value, "/apps/hdf5");
}

#[test]
fn mpi_needs_both_compiler_and_launcher() {
    let machine = Invented::default().program("mpicc");
    assert_eq!(mpi(&machine).unwrap_err(), "mpicc is there, mpirun is not");
    let machine = machine.program("mpirun").answer("mpirun --version", "mpirun (Open MPI) 4.1.4\n\nReport bugs\n");
    assert_eq!(mpi(&machine).unwrap().what, "mpirun (Open MPI) 4.1.4, mpicc");
}

#[test]
fn an_mpi_off_the_path_is_put_on_it() {
    let machine =
        Invented::default().file("/usr/lib64/openmpi/bin/mpicc", "").file("/usr/lib64/openmpi/lib/libmpi.so", "");
    let found = mpi(&machine).unwrap();
    let path = Setting::prepend("PATH", "/usr/lib64/openmpi/bin");
    assert_eq!(found.settings, [path, Setting::prepend("LD_LIBRARY_PATH", "/usr/lib64/openmpi/lib")]);
    let suse = Invented::default().file("/usr/lib64/mpi/gcc/openmpi4/bin/mpicc", "");
    assert_eq!(mpi(&suse).unwrap().what, "/usr/lib64/mpi/gcc/openmpi4");
}

#[test]
fn libclang_is_not_libclang_cpp() {
    for name in ["libclang.so", "libclang.so.1", "libclang-14.so.1", "libclang-14.0.6.so", "libclang.dylib"] {
        assert!(is_libclang(Path::new(name)), "{name}");
    }
    for name in ["libclang-cpp.so.14", "libclangBasic.a", "libclang.a", "libc.so"] {
        assert!(!is_libclang(Path::new(name)), "{name}");
    }
}

#[test]
fn libclang_without_headers_borrows_those_of_gcc() {
    let machine = Invented::default().file("/usr/lib/llvm-14/lib/libclang-14.so.1", "");
    assert!(libclang(&machine).unwrap_err().contains("stddef.h"));
    let machine = machine.answer("gcc -print-file-name=include", "/usr/lib/gcc/x86_64-linux-gnu/12/include\n");
    assert_eq!(names(&libclang(&machine).unwrap()), ["BINDGEN_EXTRA_CLANG_ARGS"]);
    let machine = machine.file("/usr/lib/llvm-14/lib/clang/14.0.6/include/stddef.h", "");
    assert!(libclang(&machine).unwrap().settings.is_empty());
}

#[test]
fn condas_libclang_must_be_named() {
    let machine = Invented::default()
        .variable("CONDA_PREFIX", "/c")
        .file("/c/lib/libclang.so", "")
        .file("/c/lib/clang/17/include/stddef.h", "");
    assert_eq!(libclang(&machine).unwrap().settings, [Setting::set("LIBCLANG_PATH", "/c/lib")]);
}
