//! Recipes as durable artefacts: `<data>/recipes/<digest>.json`, written once, never changed.
//!
//! A recipe is pinned before the first outcome that was made with it, so that any range can be enriched again. The
//! file holds exactly the bytes of [`Recipe::to_json`]; its name is their SHA-256, so a copy can be checked with
//! `sha256sum`. The files that its enrichments read are pinned before it, as `<data>/assets/<digest>`.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use enrich::enrichments::Asset;
use enrich::iglu::{Resolver, Schemas};
use enrich::{Recipe, Settings};
use model::files::{self, Files, Published};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::answers::Answers;
use crate::registry::Registry;

/// Where a resolver that was never in force begins.
const FIRST_EPOCH: u64 = 1;

/// The folder of the recipes in the data folder.
pub const FOLDER: &str = "recipes";

/// The folder of the files that enrichments read, in the data folder.
pub const ASSETS_FOLDER: &str = "assets";

/// The recipe of this moment: what the registry has, and these settings.
pub fn current_recipe(registry: &dyn Registry, settings: Settings) -> Result<Recipe, Error> {
    Ok(Recipe::new(Schemas::embedded().with_local(registry.schemas()?), settings))
}

/// The recipe of this moment with registries on the network. It goes on with the answers of the one in force, as long as
/// it asks the same registries, and asks them anew if a schema that was absent is there now.
///
/// # Errors
/// When the registry cannot be read, or the folder of the facts cannot be listed. A registry on the network that gives
/// no answer now is no error: then the absences that are known hold.
pub fn proposed_recipe(
    registry: &dyn Registry,
    settings: Settings,
    resolver: Option<&Resolver>,
    in_force: Option<&Recipe>,
    answers: &Answers,
) -> Result<Recipe, Error> {
    let recipe = current_recipe(registry, settings)?;
    let Some(resolver) = resolver else { return Ok(recipe) };
    let before = in_force.and_then(|recipe| recipe.schemas().resolver());
    let same = before.filter(|before| before.repositories == resolver.repositories);
    let mut resolver =
        Resolver { epoch: same.map_or(FIRST_EPOCH, |before| before.epoch), ..resolver.clone() };
    if answers.has_ended_absence(&resolver) {
        resolver.epoch = answers.fresh_epoch(&resolver)?;
    }
    Ok(recipe.with_resolver(resolver))
}

/// The recipe that asks the same registries again for all that was absent. Without a resolver it is the same recipe.
///
/// # Errors
/// When the folder of the facts cannot be listed.
pub fn asking_anew(recipe: &Recipe, answers: &Answers) -> Result<Recipe, Error> {
    let Some(resolver) = recipe.schemas().resolver() else { return Ok(recipe.clone()) };
    Ok(recipe.with_epoch(answers.fresh_epoch(resolver)?))
}

/// Makes a recipe durable under its digest, after the files that its enrichments read. Pinning it again changes nothing.
///
/// # Errors
/// [`Error::DamagedRecipe`] and [`Error::PinnedAsset`] when the name is taken by other content.
pub fn pin(files: &dyn Files, data_dir: &Path, recipe: &Recipe) -> Result<(), Error> {
    for asset in recipe.enrichments().assets().values() {
        pin_asset(files, data_dir, asset)?;
    }
    let path = path(data_dir, recipe.digest());
    let published = files::publish(files, &path, recipe.to_json().as_bytes())
        .map_err(|source| Error::Io { action: "pin the recipe", path: path.clone(), source })?;
    match published {
        Published::New => Ok(()),
        Published::Taken => read(files, &path, recipe.digest()).map(|_| ()),
    }
}

fn pin_asset(files: &dyn Files, data_dir: &Path, asset: &Asset) -> Result<(), Error> {
    let path = asset_path(data_dir, &asset.digest);
    let content = (*asset.bytes).as_ref();
    // A database is large, and this is called at every iteration. A name is only ever given to the whole content.
    let length = files.open_read(&path).and_then(|file| file.len());
    let published = if length.is_ok_and(|length| length == content.len() as u64) {
        // Who gave the name may have crashed before it was durable.
        files.sync_dir(&data_dir.join(ASSETS_FOLDER)).map(|()| Published::New)
    } else {
        files::publish(files, &path, content)
    };
    match published.map_err(|source| Error::Io { action: "pin the file", path, source })? {
        Published::New => Ok(()),
        Published::Taken => read_asset(files, data_dir, &asset.digest).map(|_| ()),
    }
}

/// The recipe that was pinned under a digest.
///
/// # Errors
/// When there is none, when its file or one that it needs is damaged, or when this binary cannot enrich with it.
pub fn load(files: &dyn Files, data_dir: &Path, digest: &str) -> Result<Recipe, Error> {
    let path = path(data_dir, digest);
    let text = read(files, &path, digest)?;
    if let Some(known) = recent().iter().find(|recipe| recipe.digest() == digest) {
        return Ok(known.clone());
    }
    let damage = RefCell::new(None);
    let asset = |digest: &str| match read_asset(files, data_dir, digest) {
        Ok(bytes) => Some(Arc::new(bytes) as Arc<dyn AsRef<[u8]> + Send + Sync>),
        Err(error) => {
            damage.borrow_mut().get_or_insert(error);
            None
        }
    };
    let recipe = Recipe::read(&text, asset);
    if let Some(error) = damage.into_inner() {
        return Err(error);
    }
    let recipe = recipe.map_err(|source| Error::UnusableRecipe { path: path.clone(), source })?;
    if recipe.digest() == digest {
        remember(&recipe);
        Ok(recipe)
    } else {
        let found = recipe.digest().to_owned();
        Err(Error::DamagedRecipe { digest: digest.to_owned(), found, path })
    }
}

/// The last recipes with enrichments. Both layers load the recipe in force again and again; its databases are large,
/// and its caches are warm. A digest names one content wherever it lies, so this holds for any data folder.
static RECENT: Mutex<Vec<Recipe>> = Mutex::new(Vec::new());

/// How many are kept: the one in force and the next one.
const RECENT_MAX: usize = 2;

fn recent() -> std::sync::MutexGuard<'static, Vec<Recipe>> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember(recipe: &Recipe) {
    if recipe.enrichments().configs().is_empty() {
        return;
    }
    let mut recent = recent();
    recent.retain(|known| known.digest() != recipe.digest());
    recent.insert(0, recipe.clone());
    recent.truncate(RECENT_MAX);
}

fn asset_path(data_dir: &Path, digest: &str) -> PathBuf {
    data_dir.join(ASSETS_FOLDER).join(digest)
}

/// The content of a pinned file, which has this digest.
fn read_asset(files: &dyn Files, data_dir: &Path, digest: &str) -> Result<Vec<u8>, Error> {
    let path = asset_path(data_dir, digest);
    let content = match files.read(&path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::PinnedAsset { path, what: "is gone" });
        }
        Err(source) => return Err(Error::Io { action: "read the file", path, source }),
    };
    let found: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    match found == digest {
        true => Ok(content),
        false => Err(Error::PinnedAsset { path, what: "is damaged" }),
    }
}

fn path(data_dir: &Path, digest: &str) -> PathBuf {
    data_dir.join(FOLDER).join(format!("{digest}.json"))
}

/// The text of a recipe file, which has this digest.
fn read(files: &dyn Files, path: &Path, digest: &str) -> Result<String, Error> {
    let unknown = || Error::UnknownRecipe { digest: digest.to_owned(), path: path.to_owned() };
    // A digest comes from a manifest or a mark; one of another form would name a file elsewhere.
    if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(unknown());
    }
    let content = match files.read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(unknown()),
        Err(source) => {
            return Err(Error::Io { action: "read the recipe", path: path.to_owned(), source });
        }
    };
    let found: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    let damaged = || Error::DamagedRecipe {
        digest: digest.to_owned(),
        found: found.clone(),
        path: path.to_owned(),
    };
    if found != digest {
        return Err(damaged());
    }
    String::from_utf8(content).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use model::iglu::SchemaKey;
    use serde_json::{Value, json};
    use stream::disk::Disk;
    use tempfile::TempDir;

    use super::*;

    #[derive(Debug)]
    struct Fixed(Vec<(SchemaKey, Value)>);

    impl Registry for Fixed {
        fn schemas(&self) -> Result<Vec<(SchemaKey, Value)>, Error> {
            Ok(self.0.clone())
        }
    }

    fn recipe(bound: &str) -> Recipe {
        let key = SchemaKey::parse("iglu:org.example/a/jsonschema/1-0-0").unwrap();
        // A number that a float cannot hold must come back as it was written.
        let schema: Value =
            serde_json::from_str(&format!(r#"{{"maximum": {bound}, "a": 1.0}}"#)).unwrap();
        current_recipe(&Fixed(vec![(key, schema)]), Settings::default()).unwrap()
    }

    #[test]
    fn a_pinned_recipe_comes_back_by_its_digest() {
        let data = TempDir::new().unwrap();
        let recipe = recipe("123456789012345678901234567890");
        pin(&Disk, data.path(), &recipe).unwrap();
        pin(&Disk, data.path(), &recipe).unwrap();
        let loaded = load(&Disk, data.path(), recipe.digest()).unwrap();
        assert_eq!(loaded.to_json(), recipe.to_json());
        assert_eq!(loaded.digest(), recipe.digest());
        let files: Vec<_> = fs::read_dir(data.path().join("recipes")).unwrap().collect();
        assert_eq!(files.len(), 1);
    }

    #[test]
    fn another_schema_is_another_recipe() {
        assert_ne!(recipe("1").digest(), recipe("2").digest());
        assert_ne!(recipe("1").digest(), recipe("1.0").digest());
        assert_eq!(recipe("1").digest(), recipe("1").digest());
    }

    #[test]
    fn a_recipe_that_was_never_pinned_is_unknown() {
        let data = TempDir::new().unwrap();
        for digest in ["0".repeat(64).as_str(), "", "../catalog/1", "x"] {
            assert!(
                matches!(load(&Disk, data.path(), digest), Err(Error::UnknownRecipe { .. })),
                "{digest}"
            );
        }
    }

    #[test]
    fn a_damaged_recipe_is_never_used() {
        let data = TempDir::new().unwrap();
        let recipe = recipe("1");
        pin(&Disk, data.path(), &recipe).unwrap();
        let path = data.path().join("recipes").join(format!("{}.json", recipe.digest()));
        let text = fs::read_to_string(&path).unwrap();
        for damage in
            [text.replace("\"maximum\":1", "\"maximum\":2"), String::new(), text.clone() + "\n"]
        {
            assert_ne!(damage, text);
            fs::write(&path, damage).unwrap();
            let error = load(&Disk, data.path(), recipe.digest()).unwrap_err();
            assert!(matches!(error, Error::DamagedRecipe { .. }), "{error}");
            assert!(error.to_string().contains("restore the file from a backup"), "{error}");
            assert!(matches!(pin(&Disk, data.path(), &recipe), Err(Error::DamagedRecipe { .. })));
        }
    }

    #[test]
    fn the_files_of_enrichments_are_pinned_with_the_recipe_and_checked_when_it_is_loaded() {
        let config = enrich::enrichments::Config {
            file: "referers.json".to_owned(),
            json: json!({
                "schema": "iglu:com.snowplowanalytics.snowplow/referer_parser/jsonschema/2-0-0",
                "data": {"vendor": "", "name": "", "enabled": true,
                    "parameters": {"internalDomains": [], "uri": "/lists", "database": "a.json"}},
            }),
        };
        let content = br#"{"search": {"Example": {"domains": ["search.example"]}}}"#;
        let asset = enrich::enrichments::Asset::of(Arc::new(content.to_vec()));
        let digest = asset.digest.clone();
        let assets = [("/lists/a.json".to_owned(), asset)].into();
        let enrichments = enrich::Enrichments::new(vec![config], &assets).unwrap();
        let recipe = recipe("7").with_enrichments(enrichments);

        let data = TempDir::new().unwrap();
        pin(&Disk, data.path(), &recipe).unwrap();
        pin(&Disk, data.path(), &recipe).unwrap();
        let pinned = data.path().join("assets").join(&digest);
        assert_eq!(fs::read(&pinned).unwrap(), content);
        for (damage, what) in [(Some("{}"), "is damaged"), (None, "is gone")] {
            match damage {
                Some(damage) => fs::write(&pinned, damage).unwrap(),
                None => fs::remove_file(&pinned).unwrap(),
            }
            let error = load(&Disk, data.path(), recipe.digest()).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("restore the file"), "{error}");
        }
        fs::write(&pinned, content).unwrap();
        let loaded = load(&Disk, data.path(), recipe.digest()).unwrap();
        assert_eq!(loaded.to_json(), recipe.to_json());
        assert_eq!(loaded.enrichments().assets().len(), 1);
    }

    #[test]
    fn a_recipe_of_another_function_is_whole_but_unusable() {
        let data = TempDir::new().unwrap();
        let mut text: Value = serde_json::from_str(&recipe("1").to_json()).unwrap();
        text["function"] = json!("0.0.0-other");
        let text = text.to_string();
        let digest: String =
            Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        let path = data.path().join("recipes").join(format!("{digest}.json"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        assert!(matches!(load(&Disk, data.path(), &digest), Err(Error::UnusableRecipe { .. })));
    }
}
