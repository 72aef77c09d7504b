#!/usr/bin/env bash
# Makes Tercet.xcframework, the static library and its header for iOS devices and for the simulator. On a Mac with Xcode and
# CMake; linted, and not run, since no Mac was at hand.
#
#   cpp/capi/make_xcframework.sh [FOLDER]        FOLDER/Tercet.xcframework; the default is build/ios
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=${1:-$root/build/ios}

for program in cmake xcodebuild; do
    if ! command -v "$program" >/dev/null; then
        echo "make_xcframework.sh: $program is not installed; a Mac with Xcode and CMake is needed" >&2
        exit 1
    fi
done

libraries=()
for sdk in iphoneos iphonesimulator; do
    build=$out/$sdk
    cmake -S "$root" -B "$build" -G Xcode --toolchain "$root/cpp/toolchains/ios.cmake" \
        -DTERCET_IOS_SDK="$sdk" -DTERCET_MODULE=OFF -DTERCET_LIBRARY=ON
    cmake --build "$build" --config Release --target tercet_static
    # Of the library and its header alone: what else the project installs is for other systems.
    headers=$build/headers
    mkdir -p "$headers"
    cp "$root/cpp/capi/tercet.h" "$root/cpp/capi/module.modulemap" "$headers"
    libraries+=(-library "$build/cpp/capi/Release-$sdk/libtercet.a" -headers "$headers")
done

rm -rf "$out/Tercet.xcframework"
xcodebuild -create-xcframework "${libraries[@]}" -output "$out/Tercet.xcframework"
echo "$out/Tercet.xcframework"
