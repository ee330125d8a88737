//! A CRI adapter for Docker that isn't ours: it answers Version alone.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use dockershim::cri;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower_service::Service;

/// Serves at a path, until the test ends.
pub(crate) fn serve(path: &Path) {
    let incoming = UnixListenerStream::new(UnixListener::bind(path).unwrap());
    tokio::spawn(tonic::transport::Server::builder().add_service(Adapter).serve_with_incoming(incoming));
}

#[derive(Clone)]
struct Adapter;

impl NamedService for Adapter {
    const NAME: &'static str = "runtime.v1.RuntimeService";
}

impl Service<http::Request<Body>> for Adapter {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            if !request.uri().path().ends_with("/Version") {
                return Ok(Status::unimplemented("only Version is").into_http());
            }
            Ok(Grpc::new(ProstCodec::default()).unary(Version, request).await)
        })
    }
}

struct Version;

impl Service<Request<cri::VersionRequest>> for Version {
    type Response = Response<cri::VersionResponse>;
    type Error = Status;
    type Future = Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<cri::VersionRequest>) -> Self::Future {
        ready(Ok(Response::new(cri::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "docker".to_owned(),
            runtime_version: "20.10.24".to_owned(),
            runtime_api_version: "v1".to_owned(),
        })))
    }
}
