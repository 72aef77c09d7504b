// A team of persistent threads that run one function together.
//
// The caller is thread 0. Between two runs a worker spins for some microseconds, because the next step of a decoder is
// usually that close, then lets others run, then sleeps in the kernel. A core that has more threads than it can run
// therefore loses little: whoever waits gives way after `spins_before_yield` tries.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace tercet {

class ThreadPool {
  public:
    // A team of num_threads >= 1, the caller included.
    explicit ThreadPool(int num_threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int num_threads() const noexcept { return num_threads_; }

    // Calls task(thread_index, num_threads) once on every thread and returns when all have returned. The task must not
    // throw (an exception ends the process) and must not call run() of the same pool. Callers on different threads
    // take turns. What one run writes, the next run and the caller see.
    template <class Task>
    void run(Task&& task) {
        using Callable = std::remove_reference_t<Task>;
        if (num_threads_ == 1) {
            const std::lock_guard turn(one_caller_);
            task(0, 1);
            return;
        }
        run_on_all(
            [](void* callable, int index, int count) noexcept { (*static_cast<Callable*>(callable))(index, count); },
            const_cast<void*>(static_cast<const void*>(&task)));
    }

    // Inside a run: waits until every thread of the team has come here. All threads must call it equally often.
    void barrier() noexcept;

  private:
    using Trampoline = void (*)(void* callable, int index, int count) noexcept;

    void run_on_all(Trampoline trampoline, void* callable);
    void work(int index) noexcept;
    void stop() noexcept;

    const int num_threads_;
    std::mutex one_caller_;
    std::vector<std::thread> workers_;

    Trampoline trampoline_ = nullptr;
    void* callable_ = nullptr;

    // Each on its own cache line: a waiting thread reads one of them without disturbing the others.
    alignas(64) std::atomic<std::uint32_t> round_{0};       // counts runs; workers wait for it to change
    alignas(64) std::atomic<std::uint32_t> unfinished_{0};  // workers still inside the current run
    alignas(64) std::atomic<std::uint32_t> arrived_{0};     // threads that have come to the barrier
    alignas(64) std::atomic<std::uint32_t> passed_{0};      // barriers passed; arrivals wait for it to change
    bool stopping_ = false;
};

// The part [begin, end) of `count` pieces that falls to one thread: contiguous, sizes differ by at most one.
struct Share {
    std::size_t begin, end;
};
constexpr Share share_of(std::size_t count, int index, int num_threads) noexcept {
    const auto i = static_cast<std::size_t>(index), n = static_cast<std::size_t>(num_threads);
    return {count * i / n, count * (i + 1) / n};
}

}  // namespace tercet
