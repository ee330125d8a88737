//! A CRI adapter for Docker that isn't ours: it answers Version, and a Status that tells nothing.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::marker::PhantomData;
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
            match request.uri().path().rsplit('/').next() {
                Some("Version") => {
                    let version = Always::<cri::VersionRequest, _>::new(version());
                    Ok(Grpc::new(ProstCodec::default()).unary(version, request).await)
                }
                Some("Status") => {
                    let status = Always::<cri::StatusRequest, _>::new(cri::StatusResponse::default());
                    Ok(Grpc::new(ProstCodec::default()).unary(status, request).await)
                }
                _ => Ok(Status::unimplemented("only Version and Status are").into_http()),
            }
        })
    }
}

/// Answers every request of a kind with the same.
struct Always<Asked, Told>(Told, PhantomData<Asked>);

impl<Asked, Told> Always<Asked, Told> {
    fn new(told: Told) -> Self {
        Always(told, PhantomData)
    }
}

impl<Asked, Told: Clone> Service<Request<Asked>> for Always<Asked, Told> {
    type Response = Response<Told>;
    type Error = Status;
    type Future = Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Asked>) -> Self::Future {
        ready(Ok(Response::new(self.0.clone())))
    }
}

fn version() -> cri::VersionResponse {
    cri::VersionResponse {
        version: "0.1.0".to_owned(),
        runtime_name: "docker".to_owned(),
        runtime_version: "20.10.24".to_owned(),
        runtime_api_version: "v1".to_owned(),
    }
}
