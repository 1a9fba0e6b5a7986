//! One controller: objects of a kind are looked at when something of them has changed, one after the other each.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use kube::runtime::applier;
use kube::runtime::controller::{Action, Config, Error};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt as _};
use tokio::sync::{mpsc, watch};

use crate::OperatorError;
use crate::context::Context;
use crate::metrics::Outcome;

/// How long changes of an object are waited for that come together.
const DEBOUNCE: std::time::Duration = std::time::Duration::from_millis(50);

/// Objects of a kind that are looked at at once.
const CONCURRENCY: u16 = 16;

/// A kind that the operator looks after.
pub(crate) trait Reconcile:
    Resource<DynamicType = ()> + Clone + Debug + Send + Sync + Sized + 'static
{
    /// What it is called in metrics and logs.
    const KIND: &'static str;

    /// Makes what it asks for, as far as it is not there, and says in its status what is so.
    fn reconcile(
        self: Arc<Self>,
        context: Arc<Context>,
    ) -> impl Future<Output = Result<Action, OperatorError>> + Send;
}

/// Looks after a kind until it is told to stop, and what it has begun is done.
pub(crate) async fn control<K: Reconcile>(
    context: Arc<Context>,
    store: Store<K>,
    mut queue: mpsc::UnboundedReceiver<ObjectRef<K>>,
    mut stopped: watch::Receiver<bool>,
) {
    let asked = futures_util::stream::poll_fn(move |task| queue.poll_recv(task));
    let stop = Box::pin(async move {
        // Where nobody can say it any more it was said.
        let _gone = stopped.wait_for(|stopped| *stopped).await;
    });
    let asked = asked.take_until(stop).map(Ok::<_, std::convert::Infallible>);
    let config = Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY);
    let looks = applier(look::<K>, policy::<K>, Arc::clone(&context), store, asked, config);
    looks
        .for_each(|look| {
            if let Err(Error::ObjectNotFound(gone)) = &look {
                context.gone(K::KIND, &gone.name);
            }
            futures_util::future::ready(())
        })
        .await;
}

fn look<K: Reconcile>(
    object: Arc<K>,
    context: Arc<Context>,
) -> BoxFuture<'static, Result<Action, OperatorError>> {
    Box::pin(async move {
        let (began, name) = (Instant::now(), object.name_any());
        context.metrics.begun(K::KIND);
        let looked = object.reconcile(Arc::clone(&context)).await;
        let outcome = match &looked {
            Ok(_) => Outcome::Done,
            Err(error) if error.is_conflict() => Outcome::Conflict,
            Err(_) => Outcome::Failed,
        };
        if outcome == Outcome::Done {
            context.succeeded(K::KIND, &name);
        }
        context.metrics.ended(K::KIND, outcome, began.elapsed());
        looked
    })
}

#[allow(clippy::needless_pass_by_value, reason = "the runtime hands it over so")]
fn policy<K: Reconcile>(object: Arc<K>, error: &OperatorError, context: Arc<Context>) -> Action {
    let name = object.name_any();
    let wait = context.failed(K::KIND, &name);
    match error.is_conflict() {
        true => tracing::debug!(kind = K::KIND, name, ?wait, "changed by somebody else meanwhile: {error}"),
        false => tracing::warn!(kind = K::KIND, name, ?wait, "tried again: {error}"),
    }
    Action::requeue(wait)
}
