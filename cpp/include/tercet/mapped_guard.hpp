// A mapped file that becomes shorter while it is read, without the end of the process.
//
// Reading a mapped page whose bytes the file has no longer raises SIGBUS, whose default is death: whoever cuts off a
// model file that a server uses would end the server, with the requests of everybody in it. For a range that is guarded,
// the handler lays zero pages over what is gone and sets a mark, the instruction runs again, and the step comes to its
// end. What it computed is worth nothing: **whoever guards a range looks at the mark behind every use of it.**
//
// A SIGBUS elsewhere goes on to whoever handled it before us. Systems without the signal have no guards.
#pragma once

#include <cstddef>

namespace tercet {

// Most ranges at a time: files of models that are open at once.
inline constexpr int max_mapped_guards = 4096;

// Guards [begin, begin + size), which begins at a page, until `release_mapped`. Returns a name for it, from 0;
// negative where there is no room or no such signal.
int guard_mapped(const void* begin, std::size_t size);

// Whether something in the range was gone when it was read.
bool is_mapped_damaged(int guard) noexcept;

// Ends a guard; the range must still be mapped.
void release_mapped(int guard) noexcept;

}  // namespace tercet
