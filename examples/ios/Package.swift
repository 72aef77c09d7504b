// swift-tools-version:5.9
// A story on an iPhone: copy Tercet.xcframework (cpp/capi/make_xcframework.sh makes it) beside this file and open the folder
// with Xcode. Checked for syntax, and not run, since no Mac was at hand.
import PackageDescription

let package = Package(
    name: "Story",
    platforms: [.iOS(.v15)],
    products: [.library(name: "Story", targets: ["Story"])],
    targets: [
        .binaryTarget(name: "CTercet", path: "Tercet.xcframework"),
        .target(name: "Story", dependencies: ["CTercet"]),
    ]
)
