//! Merges the default, a file and the environment, and reports each invalid value with its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::fault::{Fault, Faults, PREFIX};
use super::sections::{Config, DEFAULT};
use crate::wire::explain;

/// The variable that names the file.
const FILE_VARIABLE: &str = "PRESENCE_HUB_CONFIG";
/// The file that is read if none is named.
const FILE: &str = "config.toml";

/// A valid configuration and its file.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The file; `None` if only the default and the environment were read.
    pub file: Option<PathBuf>,
}

/// A value for a key, and its place.
struct Setting {
    path: Vec<String>,
    place: String,
    /// The values to try in this order: a variable is a text, or else TOML.
    values: Vec<Value>,
}

/// Merges the default, the file and the environment, and checks the result.
///
/// # Errors
///
/// Every fault with its place.
pub fn load(named: Option<&Path>, variables: &BTreeMap<String, String>) -> Result<Loaded, Faults> {
    let file = named
        .map(Path::to_owned)
        .or_else(|| variables.get(FILE_VARIABLE).map(PathBuf::from))
        .or_else(|| Path::new(FILE).exists().then(|| PathBuf::from(FILE)));
    let mut settings = Vec::new();
    if let Some(file) = &file {
        if file.as_os_str().is_empty() {
            let place = if named.is_some() { "--config" } else { FILE_VARIABLE };
            let message = "is empty; name a configuration file, or leave it out";
            let (place, message) = (Some(place.to_owned()), message.to_owned());
            return Err(Faults(vec![Fault { place, key: String::new(), message }]));
        }
        settings.extend(from_file(file)?);
    }
    settings.extend(from_variables(variables));
    let config = assemble(settings)?;
    Ok(Loaded { config, file })
}

/// Applies settings to the default one by one, so that each invalid one is reported.
fn assemble(settings: Vec<Setting>) -> Result<Config, Faults> {
    let mut table = default_table();
    let base = table.clone();
    let mut places = BTreeMap::new();
    let mut faults = Vec::new();
    for Setting { path, place, values } in settings {
        let key = path.join(".");
        let mut error = None;
        for value in values {
            let mut alone = base.clone();
            put(&mut alone, &path, value.clone());
            match read(alone) {
                Ok(_) => {
                    put(&mut table, &path, value);
                    error = None;
                    break;
                }
                Err(wrong) => error = Some(message(&wrong, &key, &path, value)),
            }
        }
        if let Some(message) = error {
            faults.push(Fault { place: Some(place), key, message });
        } else {
            places.insert(key, place);
        }
    }
    let config =
        read(table).unwrap_or_else(|error| unreachable!("every setting was tried: {error}"));
    let conflicts = config.faults().into_iter().filter(|(keys, _)| {
        // A setting that failed has its default here: a conflict with it would mislead.
        !faults.iter().any(|fault| keys.contains(&fault.key))
    });
    let conflicts: Vec<_> = conflicts
        .map(|(keys, message)| {
            // Report the key that the operator set, not one that has its default.
            let given = keys.iter().find(|key| places.contains_key(*key)).unwrap_or(&keys[0]);
            Fault { place: places.get(given).cloned(), key: given.clone(), message }
        })
        .collect();
    faults.extend(conflicts);
    if faults.is_empty() { Ok(config) } else { Err(Faults(faults)) }
}

fn from_file(file: &Path) -> Result<Vec<Setting>, Faults> {
    let name = file.display();
    let fault = |place: String, message: String| {
        Faults(vec![Fault { place: Some(place), key: String::new(), message }])
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| fault(name.to_string(), error.to_string()))?;
    let at = |offset: usize| {
        let (line, column) = position(&text, offset);
        format!("{name}:{line}:{column}")
    };
    let table = DeTable::parse(&text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        fault(at(offset), error.message().to_owned())
    })?;
    let mut settings = Vec::new();
    flatten(table.get_ref(), &mut Vec::new(), &mut |path, offset, value| {
        settings.push((offset, Setting { path, place: at(offset), values: vec![value] }));
    });
    // In the order of the file, so that it can be fixed from top to bottom.
    settings.sort_by_key(|(offset, _)| *offset);
    Ok(settings.into_iter().map(|(_, setting)| setting).collect())
}

fn from_variables(variables: &BTreeMap<String, String>) -> Vec<Setting> {
    let overrides = variables.iter().filter_map(|(name, value)| {
        let key = name.strip_prefix(PREFIX)?;
        let path = key.split("__").map(str::to_ascii_lowercase).collect();
        let mut values = vec![Value::String(value.clone())];
        let read: Result<Table, _> = toml::from_str(&format!("value = {value}"));
        values.extend(read.ok().and_then(|mut table| table.remove("value")));
        Some(Setting { path, place: name.clone(), values })
    });
    overrides.collect()
}

/// The message for an invalid value of a key.
fn message(
    wrong: &serde_path_to_error::Error<toml::de::Error>,
    key: &str,
    path: &[String],
    value: Value,
) -> String {
    let is_secret = may_be_secret(key);
    // A list of sections, some of whose fields are secrets.
    let has_secrets = is_secret || key == "webhooks";
    let mut given = Table::new();
    if !has_secrets {
        put(&mut given, path, value);
    }
    let given = serde_json::to_value(&given).ok();
    let message =
        explain(wrong.path(), wrong.inner().message(), given.as_ref(), "the configuration");
    // `Fault` shows the key already.
    let message = message.strip_prefix(&format!("`{key}`: ")).unwrap_or(&message);
    let message = message.strip_prefix(&format!("`{key}` is ")).unwrap_or(message);
    // `explain` uses JSON's words; a TOML section is a JSON object.
    let message = message.replace("expected an object", "expected a section");
    if !is_secret {
        return message;
    }
    let example = if key.ends_with('s') { r#"["...", "..."]"# } else { r#""...""# };
    format!("{message}; write {key} = {example} (what was given is not shown)")
}

/// Whether the value of a key is a secret, or holds one.
fn may_be_secret(key: &str) -> bool {
    let within = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    hidden_keys().iter().any(|hidden| within(key, hidden) || within(hidden, key))
}

/// The keys whose types hide their values. Found by a probe: a value that does not serialize as it
/// was set is hidden.
fn hidden_keys() -> Vec<String> {
    // Valid as a secret, in a list of secrets, and as a URL with secret parts.
    let probe = Value::String("https://name:password@host.example/?query".into());
    let probes = [probe.clone(), Value::Array(vec![probe])];
    let default = default_table();
    let mut hidden = Vec::new();
    for (section, keys) in &default {
        for key in keys.as_table().into_iter().flat_map(Table::keys) {
            let path = [section.clone(), key.clone()];
            let is_hidden = probes.iter().any(|probe| {
                let mut probed = default.clone();
                put(&mut probed, &path, probe.clone());
                let config = read(probed).ok();
                let shown = config.and_then(|config| Table::try_from(config).ok());
                shown.is_some_and(|shown| shown[section][key] != *probe)
            });
            if is_hidden {
                hidden.push(path.join("."));
            }
        }
    }
    hidden
}

impl Default for Config {
    /// The built-in default.
    fn default() -> Self {
        read(default_table()).unwrap_or_else(|error| unreachable!("the built-in default: {error}"))
    }
}

/// Reads all settings. Only here, because the compiler makes much code for each way to read them.
fn read(settings: Table) -> Result<Config, serde_path_to_error::Error<toml::de::Error>> {
    serde_path_to_error::deserialize(settings)
}

fn default_table() -> Table {
    toml::from_str(DEFAULT).unwrap_or_else(|error| unreachable!("the built-in default: {error}"))
}

/// Reports each leaf of a table with its path, its offset in the file, and its value.
fn flatten(
    table: &DeTable<'_>,
    path: &mut Vec<String>,
    found: &mut impl FnMut(Vec<String>, usize, Value),
) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        match value.get_ref().as_table().filter(|inner| !inner.is_empty()) {
            Some(inner) => flatten(inner, path, found),
            None => found(path.clone(), key.span().start, plain(value)),
        }
        path.pop();
    }
}

fn plain(value: &Spanned<DeValue<'_>>) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str();
            i64::from_str_radix(digits, number.radix())
                .map_or_else(|_| Value::String(digits.to_owned()), Value::Integer)
        }
        DeValue::Float(number) => {
            number.as_str().parse().map_or(Value::Float(f64::NAN), Value::Float)
        }
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(time) => Value::Datetime(*time),
        DeValue::Array(items) => Value::Array(items.iter().map(plain).collect()),
        DeValue::Table(table) => {
            let entries = table.iter();
            Value::Table(entries.map(|(key, v)| (key.get_ref().to_string(), plain(v))).collect())
        }
    }
}

fn put(table: &mut Table, path: &[String], value: Value) {
    let Some((last, sections)) = path.split_last() else { return };
    let mut at = table;
    for section in sections {
        let inner = at.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
        if !inner.is_table() {
            *inner = Value::Table(Table::new());
        }
        let Value::Table(inner) = inner else { return };
        at = inner;
    }
    // An empty section must not replace the default section.
    let is_empty_section =
        value.as_table().is_some_and(Table::is_empty) && at.get(last).is_some_and(Value::is_table);
    if !is_empty_section {
        at.insert(last.clone(), value);
    }
}

/// The line and the column of an offset, both from 1.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}
