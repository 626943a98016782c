//! What an upgrade needs: a commit by which this binary's function takes over where it cannot enrich with the recipe in
//! force.
//!
//! Called at a start, before the speed layer. A binary knows one version of the enrich function and one set of embedded
//! schemas; a recipe that was made with others stays the truth for what is below the cut, and cannot be used above it.
//! The same goes for a recipe whose file is gone. Nothing is computed here: the cut and all files stay as they are.

use std::path::Path;
use std::sync::Arc;

use enrich::{InvalidRecipe, Recipe};
use model::causes::Causes;
use model::files::Files;
use model::time::Clock;
use views::catalog::{Catalog, Commit, Manifest};

use crate::Error;

/// Loads the recipe in force. If another version of the function made it, or its file is gone, publishes an iteration
/// with the same cut that names `propose`'s recipe from there on, and gives that one; it is durable then.
///
/// # Errors
/// Those of loading a recipe, except for [`InvalidRecipe::OtherFunction`] and [`assets::Error::UnknownRecipe`]; those of
/// `propose`; those of the commit.
pub fn recipe_in_force(
    catalog: &Catalog,
    files: &dyn Files,
    data_dir: &Path,
    clock: &dyn Clock,
    propose: impl FnOnce() -> Result<Recipe, assets::Error>,
) -> Result<Recipe, Error> {
    let newest = catalog.newest();
    match assets::load(files, data_dir, &newest.next_recipe) {
        Err(
            source @ (assets::Error::UnusableRecipe {
                source: InvalidRecipe::OtherFunction { .. },
                ..
            }
            | assets::Error::UnknownRecipe { .. }),
        ) => {
            let recipe = propose()?;
            assets::pin(files, data_dir, &recipe)?;
            if recipe.digest() == newest.next_recipe {
                tracing::warn!(
                    recipe = recipe.digest(),
                    "{source}: the configuration has made it again"
                );
                return Ok(recipe);
            }
            let manifest = take_over(catalog, &newest, &recipe, clock)?;
            let (iteration, cut) = (manifest.iteration, &manifest.cut);
            tracing::warn!(
                iteration,
                before = newest.next_recipe,
                now = recipe.digest(),
                ?cut,
                "{}: from the cut on, events are enriched with the recipe of this configuration; what is below the cut \
                 stays as it is until `snowmelt batch run --rebuild`",
                Causes(&source)
            );
            Ok(recipe)
        }
        loaded => Ok(loaded?),
    }
}

fn take_over(
    catalog: &Catalog,
    newest: &Manifest,
    recipe: &Recipe,
    clock: &dyn Clock,
) -> Result<Arc<Manifest>, Error> {
    let iteration = newest.iteration + 1;
    let manifest = Manifest {
        iteration,
        parent: Some(newest.iteration),
        committed_at: clock.now().to_iso(),
        recipe: newest.next_recipe.clone(),
        next_recipe: recipe.digest().to_owned(),
        ..newest.clone()
    };
    match catalog.commit(manifest)? {
        Commit::Published(manifest) => Ok(manifest),
        // The data folder has one owner, so this is a process that should not be there.
        Commit::Lost(_) => Err(Error::Overtaken { iteration, attempts: 1 }),
    }
}

#[cfg(test)]
mod tests {
    use enrich::Settings;
    use enrich::iglu::Schemas;
    use model::cut::Cut;
    use model::files::publish;
    use model::time::Timestamp;
    use sha2::{Digest, Sha256};
    use stream::disk::Disk;

    use super::*;

    #[derive(Debug)]
    struct Fixed;

    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            Timestamp(1_700_000_000_000)
        }
    }

    fn ours() -> Recipe {
        Recipe::new(Schemas::embedded(), Settings::default())
    }

    /// A catalogue whose recipe in force is this text.
    fn catalog(data_dir: &Path, recipe: &str) -> (Catalog, String) {
        let hash = Sha256::digest(recipe.as_bytes());
        let digest: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = data_dir.join(format!("recipes/{digest}.json"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = publish(&Disk, &path, recipe.as_bytes()).unwrap();
        let first = Manifest::first(&digest, &Timestamp(0).to_iso());
        (Catalog::open(Arc::new(Disk), data_dir, || Ok(first)).unwrap(), digest)
    }

    #[test]
    fn a_recipe_of_this_binary_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (catalog, digest) = catalog(folder.path(), &ours().to_json());
        let unasked = || panic!("there is nothing to propose");
        let recipe = recipe_in_force(&catalog, &Disk, folder.path(), &Fixed, unasked).unwrap();
        assert_eq!((recipe.digest(), catalog.newest().iteration), (digest.as_str(), 0));
    }

    #[test]
    fn another_functions_recipe_ends_at_the_cut() {
        let folder = tempfile::tempdir().unwrap();
        let older = ours().to_json().replacen(enrich::VERSION, "0.0.1", 1);
        let (catalog, digest) = catalog(folder.path(), &older);
        let propose = || Ok(ours());
        let recipe = recipe_in_force(&catalog, &Disk, folder.path(), &Fixed, propose).unwrap();
        assert_eq!(recipe.digest(), ours().digest());
        let newest = catalog.newest();
        assert_eq!((newest.iteration, &newest.cut), (1, &Cut::default()));
        assert_eq!((&newest.recipe, newest.next_recipe.as_str()), (&digest, recipe.digest()));
        // And it is found again.
        let unasked = || panic!("there is nothing to propose");
        recipe_in_force(&catalog, &Disk, folder.path(), &Fixed, unasked).unwrap();
    }

    #[test]
    fn a_recipe_whose_file_is_gone_is_made_again_or_ends_at_the_cut() {
        for (in_force, iteration) in [(ours().to_json(), 0), (r#"{"format":1}"#.to_owned(), 1)] {
            let folder = tempfile::tempdir().unwrap();
            let (catalog, digest) = catalog(folder.path(), &in_force);
            let file = folder.path().join(format!("recipes/{digest}.json"));
            std::fs::remove_file(file).unwrap();
            let propose = || Ok(ours());
            let recipe = recipe_in_force(&catalog, &Disk, folder.path(), &Fixed, propose).unwrap();
            assert_eq!(recipe.digest(), ours().digest());
            assert_eq!(catalog.newest().iteration, iteration);
            assert_eq!(
                assets::load(&Disk, folder.path(), recipe.digest()).unwrap().digest(),
                recipe.digest()
            );
        }
    }

    #[test]
    fn a_recipe_that_is_not_understood_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let (catalog, _) = catalog(folder.path(), r#"{"format":9}"#);
        let unasked = || panic!("nobody knows what it says");
        let refused = recipe_in_force(&catalog, &Disk, folder.path(), &Fixed, unasked);
        assert!(matches!(refused, Err(Error::Assets(_))), "{refused:?}");
        assert_eq!(catalog.newest().iteration, 0);
    }
}
