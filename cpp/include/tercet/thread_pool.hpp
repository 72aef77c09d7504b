// A team of persistent threads that share the pieces of one task.
//
// Every thread has a share of the pieces, contiguous so that it streams through memory; a thread whose share is done
// takes pieces of the others'. The caller works like everyone else and then waits only for pieces that somebody has begun:
// a worker that has no core, because other programs keep them busy, is never waited for, and two virtual cores that run
// at different speeds finish together.
//
// A step of a decoder is some hundred tasks, microseconds apart. Between them a worker spins, then lets others run each
// time it looks (about a millisecond), then sleeps: within a step nobody sleeps, so no task waits for a wake-up and none
// costs a system call, while on a busy machine whoever only waits gives way.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace tercet {

// The part [begin, end) of `count` pieces that belongs to one share: contiguous, sizes differ by at most one.
struct Share {
    std::size_t begin, end;
};
constexpr Share share_of(std::size_t count, std::size_t share, std::size_t num_shares) noexcept {
    return {count * share / num_shares, count * (share + 1) / num_shares};
}

class ThreadPool {
  public:
    static constexpr std::size_t most_pieces_each = 0xFFFF;  // of a task, for each thread

    // A team of num_threads >= 1, the caller included.
    explicit ThreadPool(int num_threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int num_threads() const noexcept { return num_threads_; }

    // Calls task(piece, thread) once for each piece in [0, count) and returns when all have returned; `thread` in
    // [0, num_threads) tells who runs it, the caller being 0. Pieces run at the same time on different threads, or one
    // after the other on one: none may wait for another. A task must not throw (an exception ends the process) and must
    // not run another on the same pool. Callers on different threads take turns. What one run writes, the next run and
    // the caller see. At most most_pieces_each * num_threads pieces.
    template <class Task>
    void run_pieces(std::size_t count, Task&& task) {
        using Callable = std::remove_reference_t<Task>;
        const std::lock_guard turn(one_caller_);
        if (num_threads_ == 1 || count <= 1) {
            for (std::size_t piece = 0; piece < count; ++piece) task(piece, 0);
            return;
        }
        run_task(
            [](void* callable, std::size_t piece, int thread) noexcept { (*static_cast<Callable*>(callable))(piece, thread); },
            const_cast<void*>(static_cast<const void*>(&task)), count);
    }

    // Calls task(share, num_threads) once for each share in [0, num_threads): one piece for each thread.
    template <class Task>
    void run(Task&& task) {
        run_pieces(static_cast<std::size_t>(num_threads_),
                   [&](std::size_t share, int) { task(static_cast<int>(share), num_threads_); });
    }

  private:
    using Trampoline = void (*)(void* callable, std::size_t piece, int thread) noexcept;

    // The pieces of one thread that nobody has begun, on a cache line of its own: the number of the run in the upper half,
    // then how many pieces the share has, then the next of them. The run's number makes a claim fail when the run has
    // ended since it was read; and as long as a claimed piece is unfinished, its run cannot end.
    struct alignas(64) Unclaimed {
        std::atomic<std::uint64_t> word{0};
    };

    void run_task(Trampoline trampoline, void* callable, std::size_t count);
    void work_on_pieces(int thread) noexcept;
    std::uint32_t take_from(std::size_t share, int thread) noexcept;
    void work(int thread) noexcept;
    void stop() noexcept;

    const int num_threads_;
    std::mutex one_caller_;
    std::vector<std::thread> workers_;
    std::unique_ptr<Unclaimed[]> unclaimed_;  // [num_threads]

    // Written only while no piece is claimed or claimable, read only by those who hold a piece.
    Trampoline trampoline_ = nullptr;
    void* callable_ = nullptr;
    std::size_t num_pieces_ = 0;

    // Each on its own cache line: a waiting thread reads one of them without disturbing the others.
    alignas(64) std::atomic<std::uint32_t> run_{0};         // counts runs; workers wait for it to change
    alignas(64) std::atomic<std::uint32_t> unfinished_{0};  // pieces of the current run that have not returned
    std::atomic<bool> stopping_{false};
};

}  // namespace tercet
