//! Ids as Docker gives them, each kind a type of its own, so that a sandbox's id can't be passed for a container's.
//! An id here came from the engine: what a request sends is a string until the index has found whose it is.

use std::sync::Arc;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes an id that the engine gave.
            pub fn new(id: impl Into<Arc<str>>) -> Self {
                Self(id.into())
            }

            /// The whole id.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        /// For whoever keeps equal ones once.
        impl AsMut<Arc<str>> for $name {
            fn as_mut(&mut self) -> &mut Arc<str> {
                &mut self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id! {
    /// A pod sandbox: the full 64-digit id of its pause container.
    SandboxId
}
id! {
    /// An application container: its full 64-digit Docker id.
    ContainerId
}
id! {
    /// An image: `sha256:` and 64 hexadecimal digits. With the containerd image store it is the digest of the manifest or index.
    ImageId
}
id! {
    /// A process started with exec: Docker's exec id.
    ExecId
}
