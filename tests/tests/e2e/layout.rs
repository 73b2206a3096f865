//! What holds for the repository as a whole: who may use whom, where dependencies and lints come from, and that every
//! source file says what it is for.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use pinacle_tests::machine::repository;
use toml::Table;

/// Folder, crate, and which of ours it may use; the design's table. `*` = all.
const CRATES: [(&str, &str, &[&str]); 9] = [
    ("bus", "pinacle-bus", &[]),
    ("agent", "pinacle-agent", &["pinacle-bus"]),
    ("orchestrator", "pinacle-orchestrator", &["pinacle-bus"]),
    ("store", "pinacle-store", &[]),
    ("ingest", "pinacle-ingest", &["pinacle-bus", "pinacle-store"]),
    ("gateway", "pinacle-gateway", &["pinacle-bus", "pinacle-store"]),
    ("migrations", "pinacle-migrations", &[]),
    ("cli", "pinacle", &["*"]),
    ("tests", "pinacle-tests", &["*"]),
];

fn manifest(folder: &str) -> Table {
    toml::from_str(&fs::read_to_string(repository().join(folder).join("Cargo.toml")).unwrap()).unwrap()
}

fn is_true(table: &Table, path: &[&str]) -> bool {
    let (last, parents) = path.split_last().unwrap();
    let inner = parents.iter().try_fold(table, |table, key| table.get(*key)?.as_table());
    inner.and_then(|table| table.get(*last)?.as_bool()) == Some(true)
}

/// Every dependency of a manifest, of whatever kind and for whatever target.
fn dependencies(manifest: &Table) -> BTreeMap<String, toml::Value> {
    let targets = manifest.get("target").and_then(toml::Value::as_table).into_iter().flat_map(Table::values);
    let places = targets.filter_map(toml::Value::as_table).chain([manifest]);
    places
        .flat_map(|place| ["dependencies", "dev-dependencies", "build-dependencies"].map(|kind| place.get(kind)))
        .flatten()
        .filter_map(toml::Value::as_table)
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Every file of ours with this ending.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut open: Vec<PathBuf> = CRATES.iter().map(|(folder, ..)| repository().join(folder)).collect();
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty());
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(repository()).unwrap().display().to_string()
}

#[test]
fn the_workspace_is_the_crates_of_the_design() {
    let root = manifest("");
    let members = root.get("workspace").and_then(|workspace| workspace.get("members")).unwrap().as_array().unwrap();
    let mut members: Vec<&str> = members.iter().map(|member| member.as_str().unwrap()).collect();
    let mut designed: Vec<&str> = CRATES.iter().map(|(folder, ..)| *folder).collect();
    members.sort_unstable();
    designed.sort_unstable();
    assert_eq!(members, designed);
    for (folder, name, _) in CRATES {
        let manifest = manifest(folder);
        let found = manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
        assert_eq!(found, Some(name), "{folder}");
    }
}

#[test]
fn crates_use_only_what_the_design_lets_them() {
    let ours: Vec<&str> = CRATES.iter().map(|(_, name, _)| *name).collect();
    for (folder, _, allowed) in CRATES {
        for name in dependencies(&manifest(folder)).keys().filter(|name| ours.contains(&name.as_str())) {
            assert!(allowed.contains(&"*") || allowed.contains(&name.as_str()), "{folder} may not use {name}");
        }
    }
}

#[test]
fn every_dependency_comes_from_the_workspace() {
    for (folder, ..) in CRATES {
        for (name, value) in dependencies(&manifest(folder)) {
            let inherited = value.as_table().is_some_and(|table| is_true(table, &["workspace"]));
            assert!(inherited, "{folder}: {name} must be declared in the workspace, and here with workspace = true");
        }
    }
}

#[test]
fn every_dependency_of_the_workspace_is_used() {
    let root = manifest("");
    let declared = root.get("workspace").and_then(|workspace| workspace.get("dependencies")).unwrap();
    let used: Vec<String> =
        CRATES.iter().flat_map(|(folder, ..)| dependencies(&manifest(folder)).into_keys()).collect();
    let ours: Vec<&str> = CRATES.iter().map(|(_, name, _)| *name).collect();
    let idle: Vec<&String> = declared
        .as_table()
        .unwrap()
        .keys()
        .filter(|name| !ours.contains(&name.as_str()) && !used.contains(name))
        .collect();
    assert!(idle.is_empty(), "no crate uses {idle:?}");
}

#[test]
fn every_crate_has_the_lints_and_the_package_fields_of_the_workspace() {
    for (folder, ..) in CRATES {
        let manifest = manifest(folder);
        assert!(is_true(&manifest, &["lints", "workspace"]), "{folder}: [lints] workspace = true is missing");
        for field in ["version", "edition", "rust-version", "license", "publish"] {
            assert!(is_true(&manifest, &["package", field, "workspace"]), "{folder}: {field}.workspace = true");
        }
    }
}

#[test]
fn there_is_one_clippy_configuration() {
    // A second one would replace the first for its crate, not add to it.
    assert!(repository().join("clippy.toml").is_file());
    for file in files("toml") {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!["clippy.toml", ".clippy.toml"].contains(&name.as_str()), "{}", shown(&file));
    }
}

#[test]
fn every_crate_has_a_readme_that_is_its_documentation() {
    for (folder, ..) in CRATES {
        let root = fs::read_to_string(repository().join(folder).join("src/lib.rs")).unwrap();
        assert!(root.starts_with("#![doc = include_str!(\"../README.md\")]"), "{folder}/src/lib.rs");
    }
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let bare: Vec<String> = files("rs")
        .iter()
        // The unit tests of the module beside it.
        .filter(|file| !file.ends_with("tests.rs"))
        .filter(|file| {
            let text = fs::read_to_string(file).unwrap();
            !text.starts_with("//! ") && !text.starts_with("#![doc = include_str!")
        })
        .map(|file| shown(file))
        .collect();
    assert!(bare.is_empty(), "no //! header: {bare:#?}");
}

#[test]
fn no_module_is_named_mod_or_after_nothing() {
    for file in files("rs") {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(!["mod", "utils", "util", "helpers", "common", "misc"].contains(&name.as_str()), "{}", shown(&file));
    }
}

#[test]
fn every_wait_for_the_first_of_several_says_why_it_loses_nothing() {
    let silent: Vec<String> = files("rs")
        .iter()
        .filter(|file| !file.ends_with("layout.rs"))
        .filter(|file| {
            let text = fs::read_to_string(file).unwrap();
            text.matches("select! {").count() > text.matches("cancel-safe").count()
        })
        .map(|file| shown(file))
        .collect();
    assert!(silent.is_empty(), "tokio::select! without \"cancel-safe: …\" at its arms: {silent:#?}");
}
