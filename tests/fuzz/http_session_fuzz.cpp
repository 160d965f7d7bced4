#include "actors/http_session.hpp"
#include "tests/actors/http_replies.hpp"

#include <cstdint>
#include <cstdlib>

using namespace moira;

namespace {

/// A promise of the protocol that must hold whatever the bytes were.
void demand(bool held) {
    if (!held)
        std::abort();
}

http_site small_site(bool with_keys) {
    http_site site;
    if (with_keys)
        site.keys.emplace_back("k");
    site.identity.model = "m";
    site.id_prefix = "f-";
    site.unix_time_s = [] { return std::int64_t{0}; };
    return site;
}

/// One session that small limits let reach its edges, with a runtime that answers at once.
class fuzzed_session {
public:
    explicit fuzzed_session(bool with_keys) : site_(small_site(with_keys)), session_(limits(), site_, tags_) {}

    void feed(std::string_view bytes) {
        session_.receive(bytes);
        for (bool more = true; more;) {
            session_output output;
            more = session_.process(output);
            demand(!more || !output.bytes.empty());
            more |= check(output);
        }
    }

    /// Everything that was said must be a row of whole replies; only answers to HEAD lack their body.
    void finish() {
        session_.drain();
        demand(session_.idle());
        bool malformed = false;
        if (!said_head_)
            while (take_reply(said_, malformed))
                demand(!malformed);
        demand(said_head_ || said_.empty());
    }

    void note_head(std::string_view bytes) { said_head_ |= bytes.find("HEAD") != std::string_view::npos; }

private:
    static http_limits limits() {
        http_limits small;
        small.head_bytes_max = 1'024;
        small.request_line_bytes_max = 256;
        small.body_bytes_max = 1'024;
        small.pipelined_bytes_max = 512;
        small.output_bytes_pause = 512;
        return small;
    }

    /// True when an answer was given: what waited behind it may be next.
    bool check(const session_output& output) {
        demand(!closed_ || (output.bytes.empty() && output.actions.empty()));
        said_ += output.bytes;
        bool answered = false;
        for (const auto& action : output.actions)
            answered |= take(action);
        demand(session_.running().size() <= 1);
        return answered;
    }

    bool take(const session_action& action) {
        session_output output;
        if (const auto* submit = std::get_if<submit_action>(&action)) {
            demand(session_.authenticated());
            const auto& input = *submit->input;
            demand(int{input.prompt.has_value()} + int{input.ids.has_value()} + int{input.messages.has_value()} == 1);
            demand(session_.running() == std::vector<std::uint64_t>{submit->tag});
            end(submit->tag, input.seed.value_or(0) % 4, output);
        } else if (std::holds_alternative<statistics_action>(action)) {
            session_.deliver_statistics(std::make_shared<const runtime_statistics>(), {}, output);
        } else if (const auto* text = std::get_if<text_action>(&action)) {
            const auto& asked = text->question;
            demand(int{asked.text.has_value()} + int{asked.messages.has_value()} + int{asked.ids.has_value()} == 1);
            session_.deliver_text(text_answer{{1}, "\xff"}, output);
        } else {
            demand(!closed_);
            closed_ = true;
            return false;
        }
        check(output);
        return true;
    }

    void end(std::uint64_t tag, std::uint64_t how, session_output& output) {
        output_event event;
        event.tag = tag;
        if (how != 1) {
            event.tokens.push_back({1, "\xff\n"});
            session_.deliver(event, {}, output);
            event.tokens.clear();
        }
        event.tail_text = "tail";
        event.finished.emplace();
        event.finished->reason = how == 3   ? finish_reason::cancelled
                                 : how == 0 ? finish_reason::stop
                                            : finish_reason::error;
        session_.deliver(event, {}, output);
    }

    http_site site_;
    tag_counter tags_;
    http_session session_;
    std::string said_;
    bool closed_ = false, said_head_ = false;
};

} // namespace

/// The first byte says whether a key is wanted (odd) and how the rest is cut into reads.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    fuzzed_session session(data[0] % 2 == 1);
    const std::size_t read_bytes = 1 + data[0] / 2;
    std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
    session.note_head(rest);
    while (!rest.empty()) {
        const auto cut = rest.substr(0, read_bytes);
        session.feed(cut);
        rest.remove_prefix(cut.size());
    }
    session.finish();
    return 0;
}
