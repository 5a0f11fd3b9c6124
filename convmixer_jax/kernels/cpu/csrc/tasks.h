// Shares a worker's tasks among threads.

#ifndef CONVMIXER_JAX_OPS_CSRC_TASKS_H_
#define CONVMIXER_JAX_OPS_CSRC_TASKS_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

namespace {

// A worker's tasks, taken one by one by whichever thread is free.
template <typename Worker>
class Tasks {
 public:
  explicit Tasks(const typename Worker::Arguments& arguments)
      : arguments_(arguments), count_(arguments.tasks()) {}

  // Works until no task is left to take. Called too late it does nothing: the
  // arrays may be gone by then.
  void Work() {
    std::unique_ptr<Worker> worker;
    for (int64_t task; (task = next_++) < count_;) {
      if (worker == nullptr) worker = std::make_unique<Worker>(arguments_);
      worker->Run(task);
      if (++done_ == count_) {
        std::lock_guard<std::mutex> lock(mutex_);
        all_done_.notify_all();
      }
    }
  }

  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    all_done_.wait(lock, [this] { return done_ == count_; });
  }

 private:
  const typename Worker::Arguments arguments_;
  const int64_t count_;
  std::atomic<int64_t> next_{0}, done_{0};
  std::mutex mutex_;
  std::condition_variable all_done_;
};

// Runs all tasks, on the pool's threads as far as they are free. It waits only
// for tasks some thread has begun, never for a thread to become free: all of
// them may be waiting here, when one host plays several devices.
template <typename Worker, typename Pool>
void RunAll(Pool& pool, const typename Worker::Arguments& arguments) {
  const auto tasks = std::make_shared<Tasks<Worker>>(arguments);
  const int64_t threads = std::min(pool.num_threads(), arguments.tasks());
  for (int64_t i = 1; i < threads; ++i) {
    pool.Schedule([tasks] { tasks->Work(); });
  }
  tasks->Work();
  tasks->Wait();
}

}  // namespace

#endif  // CONVMIXER_JAX_OPS_CSRC_TASKS_H_
