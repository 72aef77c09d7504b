#include "tercet/mapped_guard.hpp"

#if defined(__unix__) || defined(__APPLE__)

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <mutex>

namespace tercet {
namespace {

// Written under the mutex, read by the handler in whatever thread faults. `begin` is set last and cleared first, and 0
// means that nobody guards here.
struct Slot {
    std::atomic<std::uintptr_t> begin{0}, end{0};
    std::atomic<bool> is_damaged{false};
};

static_assert(std::atomic<std::uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free,
              "a signal handler may use only atomics without locks");

Slot slots[max_mapped_guards];
std::atomic<int> num_slots{0};  // no slot from here on was ever used
std::mutex registration;
struct sigaction previous;
std::uintptr_t page_bytes = 4096;

// Only what may be called in a signal handler. mmap is a system call and nothing more on every system of ours.
bool replace_what_is_gone(std::uintptr_t address) noexcept {
    const int count = num_slots.load(std::memory_order_acquire);
    for (int i = 0; i < count; ++i) {
        Slot& slot = slots[i];
        const std::uintptr_t begin = slot.begin.load(std::memory_order_acquire);
        const std::uintptr_t end = slot.end.load(std::memory_order_relaxed);
        if (begin == 0 || address < begin || address >= end) continue;
        slot.is_damaged.store(true, std::memory_order_release);
        // To the end: a file that ends here has nothing behind it, and one that cannot be read is of no use either.
        const std::uintptr_t page = address / page_bytes * page_bytes;
        void* const zeros = mmap(reinterpret_cast<void*>(page), end - page, PROT_READ,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        return zeros != MAP_FAILED;
    }
    return false;
}

void on_sigbus(int signal, siginfo_t* info, void* context) {
    const int saved_errno = errno;
    const bool is_ours = info->si_code == BUS_ADRERR &&
                         replace_what_is_gone(reinterpret_cast<std::uintptr_t>(info->si_addr));
    errno = saved_errno;
    if (is_ours) return;
    if ((previous.sa_flags & SA_SIGINFO) != 0) {
        previous.sa_sigaction(signal, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(signal);
    } else {
        // Back to the default; the instruction runs again, and this time it is the end.
        struct sigaction fatal {};
        fatal.sa_handler = SIG_DFL;
        sigaction(SIGBUS, &fatal, nullptr);
        if (info->si_code <= 0) raise(signal);  // somebody sent it, so nothing would raise it again
    }
}

// Again for every guard, because others may have put themselves into our place meanwhile (Python's faulthandler).
bool install() {
    struct sigaction current {};
    if (sigaction(SIGBUS, nullptr, &current) != 0) return false;
    if ((current.sa_flags & SA_SIGINFO) != 0 && current.sa_sigaction == on_sigbus) return true;
    previous = current;
    struct sigaction ours {};
    ours.sa_sigaction = on_sigbus;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    return sigaction(SIGBUS, &ours, nullptr) == 0;
}

}  // namespace

int guard_mapped(const void* begin, std::size_t size) {
    const std::lock_guard lock(registration);
    page_bytes = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    if (!install()) return -1;
    const auto first = reinterpret_cast<std::uintptr_t>(begin);
    for (int i = 0; i < max_mapped_guards; ++i) {
        Slot& slot = slots[i];
        if (slot.begin.load(std::memory_order_relaxed) != 0) continue;
        slot.is_damaged.store(false, std::memory_order_relaxed);
        slot.end.store(first + (size + page_bytes - 1) / page_bytes * page_bytes, std::memory_order_relaxed);
        slot.begin.store(first, std::memory_order_release);
        if (i >= num_slots.load(std::memory_order_relaxed)) num_slots.store(i + 1, std::memory_order_release);
        return i;
    }
    return -1;
}

bool is_mapped_damaged(int guard) noexcept {
    return guard >= 0 && guard < max_mapped_guards && slots[guard].is_damaged.load(std::memory_order_acquire);
}

void release_mapped(int guard) noexcept {
    if (guard < 0 || guard >= max_mapped_guards) return;
    const std::lock_guard lock(registration);
    slots[guard].begin.store(0, std::memory_order_release);
}

}  // namespace tercet

#else

namespace tercet {

int guard_mapped(const void*, std::size_t) { return -1; }
bool is_mapped_damaged(int) noexcept { return false; }
void release_mapped(int) noexcept {}

}  // namespace tercet

#endif
