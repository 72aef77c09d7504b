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
        for (int index = 1; index < num_threads_; ++index) workers_.emplace_back([this, index] { work(index); });
    } catch (...) {  // the system refused a thread: release those that started, then tell the caller
        stop();
        throw;
    }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() noexcept {
    stopping_ = true;
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_on_all(Trampoline trampoline, void* callable) {
    const std::lock_guard turn(one_caller_);
    trampoline_ = trampoline;
    callable_ = callable;
    unfinished_.store(static_cast<std::uint32_t>(num_threads_ - 1), std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();

    trampoline(callable, 0, num_threads_);

    for (std::uint32_t left; (left = unfinished_.load(std::memory_order_acquire)) != 0;)
        wait_for_change(unfinished_, left);
}

void ThreadPool::work(int index) noexcept {
    for (std::uint32_t round = 0;; ++round) {
        wait_for_change(round_, round);
        if (stopping_) return;
        trampoline_(callable_, index, num_threads_);
        if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
    }
}

void ThreadPool::barrier() noexcept {
    if (num_threads_ == 1) return;
    const std::uint32_t passed = passed_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<std::uint32_t>(num_threads_)) {
        arrived_.store(0, std::memory_order_relaxed);
        passed_.store(passed + 1, std::memory_order_release);
        passed_.notify_all();
    } else {
        wait_for_change(passed_, passed);
    }
}

}  // namespace tercet
