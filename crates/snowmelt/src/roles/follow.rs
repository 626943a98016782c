//! Brings what the batch layer commits to the serving and the speed layer, and forgets what nobody reads any more.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use assets::{Answers, Driver};
use model::causes::Causes;
use model::cut::Cut;
use model::files::Files;
use stream::local::Local;
use views::catalog::Manifest;
use views::lambda::Lambda;

use crate::watch::Watch;

/// How often cuts that were released are looked for.
const TIDY_INTERVAL: Duration = Duration::from_millis(200);

/// Brings a commit of the batch layer to the serving and the speed layer.
pub(crate) struct Follower {
    pub(crate) lambda: Arc<Lambda>,
    pub(crate) speed: Arc<speed::Running>,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) data_dir: PathBuf,
    pub(crate) answers: Arc<Answers>,
}

impl Follower {
    /// Serves the iteration, as soon as no answer gets shorter by it. Where it names another recipe from its cut on, the
    /// speed layer first derives the rest again; if that takes long, [`Tidying`] serves it later.
    pub(crate) fn follow(&self, manifest: &Arc<Manifest>) {
        if manifest.next_recipe != self.speed.status().recipe {
            match assets::load(&*self.files, &self.data_dir, &manifest.next_recipe) {
                Ok(recipe) => {
                    let recipe = Driver::new(Arc::new(recipe), Arc::clone(&self.answers));
                    self.speed.switch(recipe, &manifest.cut);
                }
                Err(error) => {
                    tracing::error!(iteration = manifest.iteration, recipe = manifest.next_recipe, error = %Causes(&error), "the speed layer stays on the recipe before; restart to try again");
                    return;
                }
            }
        }
        let patience = Instant::now() + Duration::from_secs(30);
        while self.lambda.served().iteration < manifest.iteration && Instant::now() < patience {
            if serve_newest(&self.lambda, &self.speed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// True when a later iteration is served from now on.
fn serve_newest(lambda: &Lambda, speed: &speed::Running) -> bool {
    match lambda.advance() {
        Ok(false) => false,
        Ok(true) => {
            speed.raise(&lambda.served().cut);
            lambda.forget();
            speed.forget(&lambda.oldest_pinned_cut());
            true
        }
        Err(error) => {
            tracing::error!(error = %Causes(&error), "cannot serve the newest iteration");
            false
        }
    }
}

/// A thread that forgets what was pinned when an iteration was served and is not any more, and looks at the ends of the
/// raw stream for the ages in metrics and health.
pub(crate) struct Tidying {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Tidying {
    pub(crate) fn start(
        lambda: Arc<Lambda>,
        speed: Arc<speed::Running>,
        raw: Arc<Local>,
        watch: Arc<Watch>,
    ) -> Result<Tidying> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let tidy = move || {
            let mut forgotten = Cut::default();
            while !stopping.load(Ordering::Relaxed) {
                std::thread::sleep(TIDY_INTERVAL);
                serve_newest(&lambda, &speed);
                let ends = speed::service::raw_ends(&*raw).unwrap_or_default();
                watch.look(&ends, &lambda.served().cut, Instant::now());
                let oldest = lambda.oldest_pinned_cut();
                if oldest != forgotten {
                    lambda.forget();
                    speed.forget(&oldest);
                    forgotten = oldest;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("tidy".to_owned())
            .spawn(tidy)
            .context("start a thread")?;
        Ok(Tidying { stop, thread })
    }

    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic was reported by its hook.
        let _ = self.thread.join();
    }
}
