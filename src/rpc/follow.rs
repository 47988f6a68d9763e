//! The clock by which a server looks at the alias that it follows.

use super::lookup;
use crate::serving::Serving;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// How often the registry is asked. A promotion shall be answered with within a second, and the
/// version has to be read within that time too.
const EVERY: Duration = Duration::from_millis(250);

/// Looks at the alias until the set is dropped; a pinned server looks at nothing. It must be called
/// within a tokio runtime.
pub fn start(serving: &Arc<Serving>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if serving.follows().is_some() {
        tasks.spawn(look(Arc::clone(serving)));
    }
    tasks
}

async fn look(serving: Arc<Serving>) {
    let mut ticks = tokio::time::interval(EVERY);
    // After a slow disk the next look may wait its time.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let serving = Arc::clone(&serving);
        // What came of it is logged where it happens.
        if let Err(error) = lookup::aside(move || serving.follow()).await {
            let cause: &(dyn Error + 'static) = &error;
            tracing::error!(error = cause, "the followed alias was not looked at");
        }
    }
}
