#include "actors/embedding_session.hpp"
#include "tests/end_to_end/matrix_transport.hpp"

namespace moira {

namespace {

text_sink_actor::behavior_type matrix_sink(text_sink_actor::pointer self, const runtime_actor& runtime,
                                           const std::shared_ptr<matrix_mailbox>& box) {
    const auto tell = [box](std::uint64_t request, std::size_t tokens) {
        while (tokens-- > 0)
            box->put({request, std::nullopt, {}});
    };
    return {
        [=](const text_delta& more) {
            tell(more.tag, more.token_ids.size());
            self->send(runtime, grant_atom{}, more.tag, std::uint32_t{1}, text_sink_actor{self});
        },
        [=](const text_end& last) {
            tell(last.tag, last.rest.token_ids.size());
            box->put({last.tag, matrix_outcome{last.logits_hash, last.token_ids, last.cached_tokens}, last.message});
        },
    };
}

} // namespace

struct embedded_transport::actors {
    runtime_actor runtime;
    text_sink_actor sink;
};

embedded_transport::embedded_transport(local_runtime& runtime) : actors_(std::make_unique<actors>()) {
    actors_->runtime = local_runtime_actors::spawn_session(runtime);
    actors_->sink = local_runtime_actors::system(runtime).spawn(matrix_sink, actors_->runtime, mailbox_);
}

/// The session ends with its runtime.
embedded_transport::~embedded_transport() {
    caf::anon_send_exit(actors_->sink, caf::exit_reason::user_shutdown);
}

void embedded_transport::submit(std::size_t request, const generation_input& input) {
    prompt_request asked;
    asked.tag = request;
    asked.prompt = input.prompt;
    asked.ids = input.ids;
    asked.max_tokens = input.max_tokens;
    asked.temperature = input.temperature;
    asked.seed = input.seed;
    asked.ignore_eos = input.ignore_eos;
    asked.credit = 2; // fewer than the steps of a request: some deltas hold more than one token
    caf::anon_send(actors_->runtime, submit_atom{}, asked, actors_->sink);
}

matrix_event embedded_transport::next() {
    return mailbox_->take();
}

} // namespace moira
