# For 64-bit ARM Linux with Debian's cross compiler (g++-aarch64-linux-gnu), and the emulator of qemu-user to run what it
# makes:
#
#   cmake -S . -B build/aarch64 -G Ninja --toolchain cpp/toolchains/aarch64-linux-gnu.cmake \
#         -DTERCET_MODULE=OFF -DTERCET_PROGRAMS=ON && cmake --build build/aarch64
#   qemu-aarch64 -L /usr/aarch64-linux-gnu build/aarch64/kernel_equality
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
