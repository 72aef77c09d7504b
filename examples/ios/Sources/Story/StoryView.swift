// One screen: a beginning is typed, the model goes on.
import SwiftUI

public struct StoryView: View {
    let model: Model
    @State private var beginning = "Once upon a time"
    @State private var story = ""
    @State private var telling: Task<Void, Never>?

    public init(model: Model) {
        self.model = model
    }

    public var body: some View {
        VStack(alignment: .leading) {
            TextField("How does it begin?", text: $beginning)
                .textFieldStyle(.roundedBorder)
            Button(telling == nil ? "Tell" : "Stop", action: toggle)
            ScrollView {
                Text(story).textSelection(.enabled)
            }
        }
        .padding()
    }

    private func toggle() {
        if let telling {
            telling.cancel()
            return
        }
        story = beginning
        telling = Task { @MainActor in
            do {
                for try await piece in model.story(beginning) {
                    story += piece
                }
            } catch {
                story = error.localizedDescription
            }
            telling = nil
        }
    }
}
