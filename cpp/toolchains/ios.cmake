# For iPhones and iPads, and for their simulator on a Mac, with Xcode's compiler; written without a Mac at hand and not run.
# cpp/capi/make_xcframework.sh uses it for both:
#
#   cmake -S . -B build/ios -G Xcode --toolchain cpp/toolchains/ios.cmake -DTERCET_IOS_SDK=iphoneos \
#         -DTERCET_MODULE=OFF -DTERCET_LIBRARY=ON
set(TERCET_IOS_SDK iphoneos CACHE STRING "iphoneos (devices) or iphonesimulator")
set_property(CACHE TERCET_IOS_SDK PROPERTY STRINGS iphoneos iphonesimulator)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES TERCET_IOS_SDK)

set(CMAKE_SYSTEM_NAME iOS)
set(CMAKE_SYSTEM_PROCESSOR arm64)
set(CMAKE_OSX_SYSROOT ${TERCET_IOS_SDK})
set(CMAKE_OSX_ARCHITECTURES arm64)
set(CMAKE_OSX_DEPLOYMENT_TARGET 15.0)  # its C++ library has all of C++20 that the sources use

# An app holds the static library; nothing is signed here, and nothing that was compiled can be run on the Mac.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_XCODE_ATTRIBUTE_CODE_SIGNING_ALLOWED NO)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
