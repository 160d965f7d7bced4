#include "actors/line_protocol.hpp"

#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>

using namespace moira;

namespace {

/// A promise of the protocol that must hold whatever the bytes were.
void demand(bool held) {
    if (!held)
        std::abort();
}

/// One session that small limits let reach its edges, with a runtime that answers every request at once.
class fuzzed_session {
public:
    explicit fuzzed_session(bool with_keys)
        : site_{with_keys ? std::vector<std::string>{"k"} : std::vector<std::string>{}, {}},
          session_(limits(), site_, tags_) {}

    void feed(std::string_view bytes) {
        session_.receive(bytes);
        for (bool more = true; more;) {
            session_output output;
            more = session_.process(output);
            demand(!more || !output.bytes.empty());
            check(output);
        }
    }

    /// Ends everything that still runs.
    void finish() {
        for (const auto tag : session_.running())
            end(tag);
        session_output output;
        session_.deliver_statistics(std::make_shared<const runtime_statistics>(), {}, output);
        check(output);
        demand(session_.idle());
    }

private:
    static line_limits limits() {
        line_limits small;
        small.line_bytes_max = 4'096;
        small.requests_max = 3;
        small.id_bytes_max = 16;
        small.statistics_waiting_max = 2;
        small.output_bytes_pause = 512;
        return small;
    }

    void check(const session_output& output) {
        demand(!closed_ || (output.bytes.empty() && output.actions.empty()));
        demand(output.bytes.empty() || output.bytes.back() == '\n');
        for (std::string_view rest = output.bytes; !rest.empty();) {
            const auto end = rest.find('\n');
            demand(nlohmann::json::accept(rest.substr(0, end)));
            rest.remove_prefix(end + 1);
        }
        for (const auto& action : output.actions)
            take(action);
        demand(session_.running().size() <= 3);
    }

    void take(const session_action& action) {
        if (const auto* submit = std::get_if<submit_action>(&action)) {
            demand(session_.authenticated());
            const auto& input = *submit->input;
            demand(int{input.prompt.has_value()} + int{input.ids.has_value()} + int{input.messages.has_value()} == 1);
            if (input.seed.value_or(0) % 2 == 1)
                ending_ = submit->tag;
        } else if (const auto* cancel = std::get_if<cancel_action>(&action)) {
            ending_ = cancel->tag;
        } else if (std::holds_alternative<close_action>(action)) {
            closed_ = true;
        }
        if (const auto tag = std::exchange(ending_, 0); tag != 0 && !closed_)
            end(tag);
    }

    void end(std::uint64_t tag) {
        output_event event;
        event.tag = tag;
        event.tokens.push_back({1, "\xff\n"});
        event.finished.emplace();
        event.finished->prompt_tokens = static_cast<std::int32_t>(tag % 2);
        session_output output;
        session_.deliver(event, {}, output);
        for (std::string_view rest = output.bytes; !rest.empty();) {
            const auto line_end = rest.find('\n');
            demand(line_end != std::string_view::npos && nlohmann::json::accept(rest.substr(0, line_end)));
            rest.remove_prefix(line_end + 1);
        }
    }

    session_site site_;
    tag_counter tags_;
    line_session session_;
    std::uint64_t ending_ = 0;
    bool closed_ = false;
};

} // namespace

/// The first byte says whether a key is wanted (odd) and how the rest is cut into reads.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    fuzzed_session session(data[0] % 2 == 1);
    const std::size_t read_bytes = 1 + data[0] / 2;
    std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
    while (!rest.empty()) {
        const auto cut = rest.substr(0, read_bytes);
        session.feed(cut);
        rest.remove_prefix(cut.size());
    }
    session.finish();
    return 0;
}
