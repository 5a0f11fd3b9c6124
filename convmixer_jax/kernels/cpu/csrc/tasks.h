// Distributes a worker's tasks over threads.

#ifndef CONVMIXER_JAX_KERNELS_CPU_TASKS_H_
#define CONVMIXER_JAX_KERNELS_CPU_TASKS_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

namespace {

// A worker's tasks, which free threads take one by one.
template <typename Worker>
class Tasks {
 public:
  explicit Tasks(const typename Worker::Arguments& arguments)
      : arguments_(arguments), count_(arguments.tasks()) {}

  // Runs tasks until none is left. If all are taken it does nothing, not even
  // create a worker: the arrays may have been freed.
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

// Runs all tasks, on those of the pool's threads that are free. It waits only
// for tasks that a thread has started, never for a thread to become free: if a
// host simulates several devices, all threads may be waiting here.
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

#endif  // CONVMIXER_JAX_KERNELS_CPU_TASKS_H_
