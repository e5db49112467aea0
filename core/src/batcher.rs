//! Work of concurrent callers that is carried out together, such as a commit that all of them wait for.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, oneshot};

/// Gathers jobs while a batch is carried out; they form the next one. There is no timer: a job that meets no other one
/// does not wait. Clones share the jobs.
pub struct Batcher<J, R> {
    waiting: Arc<Mutex<VecDeque<Waiting<J, R>>>>,
    turn: Arc<AsyncMutex<()>>,
    limit: usize,
}

struct Waiting<J, R> {
    job: J,
    answer: oneshot::Sender<R>,
}

impl<J, R> Clone for Batcher<J, R> {
    fn clone(&self) -> Self {
        Self { waiting: Arc::clone(&self.waiting), turn: Arc::clone(&self.turn), limit: self.limit }
    }
}

impl<J: Send + 'static, R: Send + 'static> Batcher<J, R> {
    /// No job is waiting. A batch has at most `limit` jobs, at least one.
    pub fn new(limit: usize) -> Self {
        Self { waiting: Arc::default(), turn: Arc::default(), limit: limit.max(1) }
    }

    /// Carries out a job with the next batch, and returns its result: `run` gets jobs, oldest first, and returns their
    /// results in this order. A batch that was started goes on if its callers are dropped; a job whose caller was
    /// dropped before is left out. Returns `None` if `run` panicked or returned too few results.
    pub async fn submit<F>(&self, job: J, run: impl Fn(Vec<J>) -> F) -> Option<R>
    where
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        let (answer, mut result) = oneshot::channel();
        self.waiting.lock().push_back(Waiting { job, answer });
        loop {
            let turn = tokio::select! {
                biased;
                result = &mut result => return result.ok(),
                turn = Arc::clone(&self.turn).lock_owned() => turn,
            };
            let (jobs, answers) = self.next();
            if jobs.is_empty() {
                // An earlier batch had this job, and has ended.
                return result.await.ok();
            }
            let work = run(jobs);
            tokio::spawn(async move {
                let results = work.await;
                for (answer, result) in answers.into_iter().zip(results) {
                    // A caller that was dropped needs no result.
                    let _ = answer.send(result);
                }
                drop(turn);
            });
        }
    }

    /// The oldest jobs, and where their results go.
    fn next(&self) -> (Vec<J>, Vec<oneshot::Sender<R>>) {
        let mut waiting = self.waiting.lock();
        let (mut jobs, mut answers) = (Vec::new(), Vec::new());
        while jobs.len() < self.limit {
            let Some(Waiting { job, answer }) = waiting.pop_front() else { break };
            if !answer.is_closed() {
                jobs.push(job);
                answers.push(answer);
            }
        }
        (jobs, answers)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Batches that wait for `gate`, and are recorded.
    #[derive(Clone)]
    struct Bench {
        batcher: Batcher<u32, u32>,
        gate: Arc<Semaphore>,
        batches: Arc<Mutex<Vec<Vec<u32>>>>,
    }

    impl Bench {
        fn new(limit: usize) -> Self {
            Self { batcher: Batcher::new(limit), gate: Arc::new(Semaphore::new(0)), batches: Arc::default() }
        }

        async fn submit(&self, job: u32) -> Option<u32> {
            let run = |jobs: Vec<u32>| {
                self.batches.lock().push(jobs.clone());
                let gate = Arc::clone(&self.gate);
                async move {
                    gate.acquire().await.unwrap().forget();
                    assert!(!jobs.contains(&13), "unlucky");
                    jobs.into_iter().map(|job| job * 2).collect()
                }
            };
            self.batcher.submit(job, run).await
        }

        fn start(&self, job: u32) -> tokio::task::JoinHandle<Option<u32>> {
            let bench = self.clone();
            tokio::spawn(async move { bench.submit(job).await })
        }

        /// Starts jobs, each of which waits or is being carried out afterwards.
        async fn start_all(&self, jobs: &[u32]) -> Vec<tokio::task::JoinHandle<Option<u32>>> {
            let mut started = Vec::new();
            for job in jobs {
                started.push(self.start(*job));
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            }
            started
        }

        fn batches(&self) -> Vec<Vec<u32>> {
            self.batches.lock().clone()
        }
    }

    #[tokio::test]
    async fn jobs_that_arrive_during_a_batch_form_the_next_one() {
        let bench = Bench::new(3);
        let started = bench.start_all(&[1, 2, 3, 4, 5]).await;
        bench.gate.add_permits(9);
        let results: Vec<_> = join_all(started).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(results, [2, 4, 6, 8, 10].map(Some));
        assert_eq!(bench.batches(), [vec![1], vec![2, 3, 4], vec![5]]);
    }

    #[tokio::test]
    async fn a_batch_goes_on_without_its_callers_and_a_job_that_nobody_waits_for_is_left_out() {
        let bench = Bench::new(3);
        let started = bench.start_all(&[1, 2, 3]).await;
        started[0].abort();
        started[1].abort();
        tokio::task::yield_now().await;
        bench.gate.add_permits(9);
        assert_eq!(join_all(started).await.pop().unwrap().unwrap(), Some(6));
        assert_eq!(bench.batches(), [vec![1], vec![3]]);
    }

    #[tokio::test]
    async fn a_panic_concerns_one_batch() {
        let bench = Bench::new(3);
        bench.gate.add_permits(9);
        assert_eq!(bench.submit(13).await, None);
        assert_eq!(bench.submit(1).await, Some(2));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_job_gets_its_own_result() {
        let bench = Bench::new(7);
        bench.gate.add_permits(10_000);
        let right = AtomicUsize::new(0);
        let all = (0..1_000).filter(|job| *job != 13).map(|job| bench.start(job));
        for (result, job) in join_all(all).await.into_iter().zip((0..1_000).filter(|job| *job != 13)) {
            if result.unwrap() == Some(job * 2) {
                right.fetch_add(1, Ordering::Relaxed);
            }
        }
        assert_eq!(right.into_inner(), 999);
    }
}
