//! Which API version of the Engine brings what: the one table of it.
//! It only tells; asking for what is missing is refused where the request is translated.

use std::fmt;

/// A version of the Engine API (`1.41`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// Always 1 so far.
    pub major: u16,
    /// 41 for Docker 20.10.
    pub minor: u16,
}

impl ApiVersion {
    /// Oldest we speak: Docker 20.10.
    pub const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 41 };
    /// Newest we have been tried with (Docker 28.5); a newer engine is asked to behave like it.
    pub const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 51 };

    /// Reads `1.41`.
    pub fn parse(text: &str) -> Option<ApiVersion> {
        let (major, minor) = text.split_once('.')?;
        Some(ApiVersion { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// Whether an engine at this version has the feature.
    pub fn has(self, feature: Feature) -> bool {
        self >= feature.since()
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What not every supported engine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Content types on hijacked streams.
    StreamContentType,
    /// `system/df?type=`.
    DiskUsageOfImages,
    /// `seccomp=builtin` (Docker 23).
    SeccompBuiltin,
    /// `HostConfig.Annotations`.
    Annotations,
    /// `BindOptions.ReadOnlyNonRecursive` and `ReadOnlyForceRecursive`.
    RecursiveReadOnly,
    /// Device requests of driver `cdi`.
    Cdi,
    /// Mounts of type `image`.
    ImageMount,
}

impl Feature {
    /// The first API version that has it.
    pub fn since(self) -> ApiVersion {
        let minor = match self {
            Feature::StreamContentType | Feature::DiskUsageOfImages | Feature::SeccompBuiltin => 42,
            Feature::Annotations => 43,
            Feature::RecursiveReadOnly | Feature::Cdi => 44,
            Feature::ImageMount => 48,
        };
        ApiVersion { major: 1, minor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_not_by_text() {
        let v = |text| ApiVersion::parse(text).unwrap();
        assert!(v("1.9") < v("1.41"));
        assert!(!v("1.41").has(Feature::StreamContentType));
        assert!(v("1.48").has(Feature::ImageMount));
        assert_eq!(ApiVersion::parse("x.1"), None);
        assert_eq!(v("1.51").to_string(), "1.51");
    }
}
