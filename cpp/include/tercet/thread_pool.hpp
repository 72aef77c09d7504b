// A team of persistent threads that share the parts of one task.
//
// A task has as many shares as the team has threads. Whoever is free claims the next one; the caller takes the first,
// then every share that nobody has claimed, and waits only for claimed shares that are still being worked on. So a
// worker that the operating system has not yet woken, because other programs keep the cores busy, is never waited for.
// Between two tasks a worker spins for some microseconds, since the next step of a decoder is usually that close, then
// lets others run, then sleeps.
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

    // Calls task(share, num_threads) once for each share in [0, num_threads) and returns when all have returned. Shares
    // run at the same time on different threads, or one after the other on one: a task must not wait for another share.
    // It must not throw (an exception ends the process) and must not call run() of the same pool. Callers on different
    // threads take turns. What one run writes, the next run and the caller see.
    template <class Task>
    void run(Task&& task) {
        using Callable = std::remove_reference_t<Task>;
        const std::lock_guard turn(one_caller_);
        if (num_threads_ == 1) {
            task(0, 1);
            return;
        }
        run_shares(
            [](void* callable, int share, int count) noexcept { (*static_cast<Callable*>(callable))(share, count); },
            const_cast<void*>(static_cast<const void*>(&task)));
    }

  private:
    using Trampoline = void (*)(void* callable, int share, int count) noexcept;

    void run_shares(Trampoline trampoline, void* callable);
    bool claim_and_run() noexcept;
    void work() noexcept;
    void stop() noexcept;

    const int num_threads_;
    std::mutex one_caller_;
    std::vector<std::thread> workers_;

    // Written only while no share is claimed or claimable, read only by those who hold a share.
    Trampoline trampoline_ = nullptr;
    void* callable_ = nullptr;

    // Each on its own cache line: a waiting thread reads one of them without disturbing the others.
    alignas(64) std::atomic<std::uint64_t> next_share_{0};  // the run in the upper half, its next unclaimed share below
    alignas(64) std::atomic<std::uint32_t> run_{0};         // counts runs; workers wait for it to change
    alignas(64) std::atomic<std::uint32_t> unfinished_{0};  // shares of the current run that have not returned
    std::atomic<bool> stopping_{false};
};

// The part [begin, end) of `count` pieces that belongs to one share: contiguous, sizes differ by at most one.
struct Share {
    std::size_t begin, end;
};
constexpr Share share_of(std::size_t count, int share, int num_shares) noexcept {
    const auto i = static_cast<std::size_t>(share), n = static_cast<std::size_t>(num_shares);
    return {count * i / n, count * (i + 1) / n};
}

}  // namespace tercet
