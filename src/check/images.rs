//! Images: the one that every pod begins with. Pure.

use super::facts::Facts;
use super::finding::{Check, Finding, Group, Judged};
use crate::pause;

pub(super) const GROUP: Group =
    Group { name: "images", checks: &[Check::new("IMG-01", "the image of sandboxes is there", sandbox_image)] };

fn sandbox_image(facts: &Facts) -> Judged {
    let Some(name) = &facts.config.sandbox_image else {
        return Ok(Finding::ok(format!("{}, built in", pause::reference())));
    };
    match &facts.engine()?.sandbox_image {
        Some(Err(error)) => Ok(Finding::warning(
            format!("{name} must be pulled before a pod can start: {error}"),
            format!("docker pull {name}\nor use the built-in one, without --pod-infra-container-image"),
        )),
        Some(Ok(())) | None => Ok(Finding::ok(name.as_str())),
    }
}
