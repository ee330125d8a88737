//! The generated CRI v1 types, client and server, and nothing else.
//! Hand-written code does not belong here, but for the one `Debug` that must not show secrets.
#![expect(
    missing_docs,
    clippy::too_many_lines,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

tonic::include_proto!("runtime.v1");

impl std::fmt::Debug for AuthConfig {
    /// Says only which registry the credentials are for.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig").field("server_address", &self.server_address).finish_non_exhaustive()
    }
}
