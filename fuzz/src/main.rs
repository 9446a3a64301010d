//! The fuzzer: libFuzzer's driver around the target that the environment variable `WEAPROUS_FUZZ_TARGET` names.
//!
//! With `WEAPROUS_FUZZ_SEEDS=FOLDER` it first writes the target's seeds there. Run it by `cargo xtask fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("WEAPROUS_FUZZ_TARGET").unwrap_or_default();
    *fuzz::TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| {
        let names: Vec<_> = fuzz::TARGETS.iter().map(|target| target.name).collect();
        panic!("WEAPROUS_FUZZ_TARGET is {name:?}; there are {}", names.join(", "))
    })
});

fuzz_target!(
    init: {
        if let Some(folder) = std::env::var_os("WEAPROUS_FUZZ_SEEDS") {
            fuzz::write_seeds(&TARGET, folder.as_ref()).expect("the seeds can be written");
        }
    },
    |data: &[u8]| (TARGET.run)(data)
);
