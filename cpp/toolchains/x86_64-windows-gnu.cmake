# For 64-bit Windows on an Intel or AMD processor: Clang with the headers and libraries of MinGW-w64 (Debian's clang and
# g++-mingw-w64-x86-64-posix), and Wine (wine64) to run what it makes:
#
#   cmake -S . -B build/windows -G Ninja --toolchain cpp/toolchains/x86_64-windows-gnu.cmake \
#         -DTERCET_MODULE=OFF -DTERCET_PROGRAMS=ON && cmake --build build/windows
#   wine64 build/windows/kernel_equality.exe
#
# Not GCC: on 64-bit Windows it puts wide vectors at addresses that are not multiples of their size (GCC bug 54412).
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR AMD64)
set(CMAKE_CXX_COMPILER clang++)
set(CMAKE_CXX_COMPILER_TARGET x86_64-w64-mingw32)
# Clang does not look into Debian's folder of GCC for POSIX threads, whose library has std::thread.
file(GLOB gcc_folder /usr/lib/gcc/x86_64-w64-mingw32/*-posix)
string(JOIN " " CMAKE_CXX_FLAGS_INIT
  "-stdlib++-isystem${gcc_folder}/include/c++" "-isystem${gcc_folder}/include/c++/x86_64-w64-mingw32")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-static -B${gcc_folder} -L${gcc_folder}")
set(CMAKE_CXX_STANDARD_LIBRARIES "-Wl,--start-group -lstdc++ -lwinpthread -Wl,--end-group")
set(CMAKE_CROSSCOMPILING_EMULATOR wine64)
set(CMAKE_FIND_ROOT_PATH /usr/x86_64-w64-mingw32)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
