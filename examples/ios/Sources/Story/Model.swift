// A model for apps: text comes as an AsyncThrowingStream, computed on a queue of its own.
//
//     let model = try Model(path: Bundle.main.path(forResource: "model", ofType: "tercet")!)
//     for try await piece in model.story("Once upon a time") { text += piece }
import CTercet
import Foundation

/// What the library says when a call fails.
public struct TercetError: Error, LocalizedError {
    public let status: tercet_status
    public let errorDescription: String?
}

private func check(_ status: tercet_status) throws {
    guard status == TERCET_OK else {
        // The text belongs to this thread and lasts until its next failure: copy it at once.
        throw TercetError(status: status, errorDescription: String(cString: tercet_last_error()))
    }
}

/// A model that is open. Its sessions may be used from any thread, each from one at a time.
public final class Model: @unchecked Sendable {
    private let handle: OpaquePointer
    private let queue = DispatchQueue(label: "tercet", qos: .userInitiated)

    /// Map a native file of the app's bundle.
    public init(path: String, threads: Int32 = 2) throws {
        var options = tercet_options()
        tercet_options_init(&options, MemoryLayout<tercet_options>.size)
        options.threads = threads
        options.verify = Int32(TERCET_VERIFY_NEVER.rawValue)  // the bundle is signed
        var opened: OpaquePointer?
        try check(tercet_open(path, &options, &opened))
        handle = opened!
    }

    deinit {
        tercet_free(handle)
    }

    /// Continue a text, piece by piece. Whoever stops reading ends it.
    public func story(_ prompt: String, maxTokens: Int32 = 120) -> AsyncThrowingStream<String, Error> {
        AsyncThrowingStream { continuation in
            let reader = Reader(continuation)
            continuation.onTermination = { _ in reader.hasLeft = true }
            queue.async { [self] in
                do {
                    try generate(prompt, maxTokens: maxTokens, reader: reader)
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
        }
    }

    private func generate(_ prompt: String, maxTokens: Int32, reader: Reader) throws {
        var session: OpaquePointer?
        try check(tercet_session_create(handle, nil, &session))
        defer { tercet_session_free(session) }
        var sampling = tercet_sampling()
        try check(tercet_sampling_init(handle, &sampling, MemoryLayout<tercet_sampling>.size))
        sampling.max_tokens = maxTokens
        // A function of C takes no closure: what it needs travels as a pointer, which outlives the call.
        let user = Unmanaged.passUnretained(reader).toOpaque()
        try withExtendedLifetime(reader) {
            try check(tercet_generate_text(session, prompt, prompt.utf8.count, &sampling, { user, _, text, count in
                Unmanaged<Reader>.fromOpaque(user!).takeUnretainedValue().take(text, count)
            }, user))
        }
    }
}

/// Where the pieces go.
private final class Reader: @unchecked Sendable {
    private let continuation: AsyncThrowingStream<String, Error>.Continuation
    private let lock = NSLock()
    private var left = false

    init(_ continuation: AsyncThrowingStream<String, Error>.Continuation) {
        self.continuation = continuation
    }

    var hasLeft: Bool {
        get { lock.withLock { left } }
        set { lock.withLock { left = newValue } }
    }

    /// One piece of text, which never ends inside a character; not 0 ends the answer.
    func take(_ text: UnsafePointer<CChar>?, _ count: Int) -> Int32 {
        if let text, count > 0 {
            let bytes = UnsafeRawBufferPointer(start: text, count: count)
            continuation.yield(String(decoding: bytes, as: UTF8.self))
        }
        return hasLeft ? 1 : 0
    }
}
