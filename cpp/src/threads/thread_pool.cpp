#include "tercet/thread_pool.hpp"

#include <exception>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tercet {
namespace {

// A pause takes 40 to 140 cycles on current x86, so 512 of them are 10 to 25 microseconds: longer than the serial
// pieces between two parallel steps of a decoder, much shorter than a scheduler's time slice.
constexpr int spins_before_yield = 512;
constexpr int yields_before_sleep = 16;

void pause_cpu() noexcept {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("isb" ::: "memory");
#endif
}

// Returns once value differs from `old`: spins, then yields, then sleeps until notified.
void wait_for_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) noexcept {
    for (int i = 0; i < spins_before_yield; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        pause_cpu();
    }
    for (int i = 0; i < yields_before_sleep; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        std::this_thread::yield();
    }
    value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads < 1 ? 1 : num_threads) {
    workers_.reserve(static_cast<std::size_t>(num_threads_ - 1));
    try {
        for (int index = 1; index < num_threads_; ++index) workers_.emplace_back([this] { work(); });
    } catch (...) {  // the system refused a thread: release those that started, then tell the caller
        stop();
        throw;
    }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() noexcept {
    stopping_.store(true, std::memory_order_relaxed);
    run_.fetch_add(1, std::memory_order_release);
    run_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_shares(Trampoline trampoline, void* callable) {
    trampoline_ = trampoline;
    callable_ = callable;
    unfinished_.store(static_cast<std::uint32_t>(num_threads_), std::memory_order_relaxed);
    const std::uint32_t run = run_.load(std::memory_order_relaxed) + 1;
    next_share_.store(static_cast<std::uint64_t>(run) << 32, std::memory_order_release);
    run_.store(run, std::memory_order_release);
    run_.notify_all();

    while (claim_and_run()) {
    }
    for (std::uint32_t left; (left = unfinished_.load(std::memory_order_acquire)) != 0;)
        wait_for_change(unfinished_, left);
}

// Runs the next share of the current run; false when all are claimed. The run's number in next_share_ makes a claim
// fail when the run has ended since it was read; and as long as a claimed share is unfinished, its run cannot end.
bool ThreadPool::claim_and_run() noexcept {
    std::uint64_t next = next_share_.load(std::memory_order_acquire);
    do {
        if ((next & 0xFFFFFFFF) >= static_cast<std::uint64_t>(num_threads_)) return false;
    } while (!next_share_.compare_exchange_weak(next, next + 1, std::memory_order_acquire));

    trampoline_(callable_, static_cast<int>(next & 0xFFFFFFFF), num_threads_);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
    return true;
}

void ThreadPool::work() noexcept {
    for (std::uint32_t seen = 0;;) {
        wait_for_change(run_, seen);
        if (stopping_.load(std::memory_order_relaxed)) return;
        seen = run_.load(std::memory_order_acquire);
        while (claim_and_run()) {
        }
    }
}

}  // namespace tercet
