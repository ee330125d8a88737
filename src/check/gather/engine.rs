//! Asks the Engine: who it is, how it is made, and what containers of pods it has.

use std::path::Path;

use super::Root;
use crate::check::facts::{Engine, Space};
use crate::config::Config;
use crate::engine::{self, Timeouts};
use crate::translate::label;

pub(super) async fn ask(root: Root<'_>, config: &Config) -> Result<Engine, engine::Error> {
    let engine = engine::Engine::new(root.at(&config.docker_socket), Timeouts::default())?;
    let version = engine.negotiate().await?;
    let (info, containers) = tokio::join!(engine.info(), engine.list(label::TYPE));
    let sandbox_image = match &config.sandbox_image {
        Some(image) => Some(engine.inspect_image(image).await.map(drop)),
        None => None,
    };
    let space = info.as_ref().ok().and_then(|info| space(&root.at(&info.docker_root_dir)));
    Ok(Engine { version, info, containers, sandbox_image, space })
}

fn space(directory: &Path) -> Option<Space> {
    let counted = rustix::fs::statvfs(directory).ok()?;
    Some(Space {
        total_bytes: counted.f_blocks.saturating_mul(counted.f_frsize),
        available_bytes: counted.f_bavail.saturating_mul(counted.f_frsize),
        inodes: counted.f_files,
        inodes_available: counted.f_favail,
    })
}
