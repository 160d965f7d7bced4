#include "actors/embedding_session.hpp"

#include "actors/caf_edition.hpp"
#include "actors/delivery_desk.hpp"
#include "actors/runtime_border.hpp"
#include "actors/runtime_error.hpp"

namespace moira {

namespace {

// The session's own messages beside its public ones. Not serialisable: a peer on the network cannot send them.
using session_self = runtime_actor::extend<
    // News of a step.
    caf::reacts_to<output_batch_ptr>,
    // Intake and batcher were lost with everything in them.
    caf::reacts_to<intake_atom, intake_actor>>;

/// A living runtime answers in microseconds; a question does not wait for a step that hangs.
constexpr auto answer_timeout = std::chrono::seconds(10);

class session_state {
public:
    using pointer = session_self::stateful_pointer<session_state>;

    session_state() = default;
    session_state(const session_state&) = delete;
    session_state& operator=(const session_state&) = delete;

    /// However the session ends, nobody waits for an answer that cannot come.
    ~session_state() {
        if (options_.supervisor)
            end_now(options_.supervisor, caf::exit_reason::user_shutdown);
        desk_.fail_all(why_ended_);
    }

    void start(pointer self, const embedding_session_options& options) {
        self_ = self;
        options_ = options;
        desk_.start(self);
        self->set_default_handler(caf::drop);
        self->monitor(options_.supervisor);
        self->set_down_handler([this](const caf::down_msg& gone) { part_ended(gone); });
        self->set_exit_handler([this](const caf::exit_msg& message) { asked_to_end(message); });
        self->request(options_.supervisor, answer_timeout, intake_atom{}, supervised_sink_actor{session_self{self}})
            .await([this](const intake_actor& first) { intake_ = first; },
                   [this](const caf::error& why) {
                       end({errc::internal, "the runtime did not start"}, why);
                   });
    }

    void submit(const prompt_request& request, const text_sink_actor& sink) {
        if (!sink)
            return;
        if (const auto number = desk_.open(request, sink))
            self_->send(intake_, submit_atom{}, *number,
                        generation_input_ptr(std::make_shared<generation_input>(to_input(request))), own_sink());
    }

    void grant(std::uint64_t tag, std::uint32_t count, const text_sink_actor& sink) {
        if (const auto number = desk_.number_of(tag, sink))
            desk_.grant(*number, count);
    }

    void cancel(std::uint64_t tag, const text_sink_actor& sink) {
        if (const auto number = desk_.number_of(tag, sink))
            self_->send(intake_, cancel_atom{}, *number, own_sink());
    }

    void deliver(const output_batch& batch) {
        for (const auto& event : batch.events)
            if (event.finished)
                close(event);
            else
                desk_.add(event.tag, ids_of(event), text_of(event));
    }

    void use_intake(const intake_actor& intake) {
        intake_ = intake;
        desk_.fail_all({errc::restarted, "a part of the runtime was lost with this request"});
    }

    caf::typed_response_promise<bool> drain() {
        auto promise = self_->make_response_promise<bool>();
        promise.delegate(options_.supervisor, drain_atom{});
        return promise;
    }

    caf::typed_response_promise<runtime_counters> statistics() {
        auto promise = self_->make_response_promise<runtime_counters>();
        self_->request(options_.supervisor, answer_timeout, stats_atom{})
            .then([promise](const runtime_statistics_ptr& all) mutable { promise.deliver(to_counters(*all)); },
                  [promise](caf::error& why) mutable { promise.deliver(std::move(why)); });
        return promise;
    }

    caf::typed_response_promise<std::string> listen(const std::string& protocol, const std::string& address) {
        auto promise = self_->make_response_promise<std::string>();
        if (protocol == "http")
            promise.delegate(options_.supervisor, listen_atom{}, http_atom{}, address);
        else if (protocol == "tcp")
            promise.delegate(options_.supervisor, listen_atom{}, address);
        else
            promise.deliver(
                to_caf_error({errc::invalid_argument, "found protocol " + protocol + ", expected tcp or http"}));
        return promise;
    }

private:
    sink_actor own_sink() { return sink_actor{session_self{self_}}; }

    static std::vector<token_id> ids_of(const output_event& event) {
        std::vector<token_id> ids;
        for (const auto& each : event.tokens)
            ids.push_back(each.token);
        return ids;
    }

    static std::string text_of(const output_event& event) {
        std::string text;
        for (const auto& each : event.tokens)
            text += each.text;
        return text + event.tail_text;
    }

    void close(const output_event& event) {
        auto last = to_end_message(*event.finished, *options_.identity, options_.model->expert_statistics());
        last.rest.token_ids = ids_of(event);
        last.rest.text = text_of(event);
        desk_.close(event.tag, std::move(last));
    }

    void part_ended(const caf::down_msg& gone) {
        if (gone.source == options_.supervisor.address())
            return end({errc::internal, "the runtime has ended: " + self_->system().render(gone.reason)}, gone.reason);
        for (const auto number : desk_.lost(gone.source))
            self_->send(intake_, cancel_atom{}, number, own_sink());
    }

    /// A peer on the network has no say in when a runtime ends.
    void asked_to_end(const caf::exit_msg& message) {
        const bool from_here = !message.source || message.source.node() == self_->system().node();
        if (message.reason && from_here)
            end({errc::draining, "the host has ended the runtime"}, message.reason);
    }

    void end(error why, const caf::error& reason) {
        why_ended_ = std::move(why);
        self_->quit(reason);
    }

    pointer self_ = nullptr;
    embedding_session_options options_;
    intake_actor intake_;
    error why_ended_{errc::internal, "the runtime has ended"};
    delivery_desk desk_;
};

session_self::behavior_type embedding_session(session_state::pointer self, const embedding_session_options& options) {
    auto& state = self->state;
    state.start(self, options);
    return {
        [&state](submit_atom, const prompt_request& request, const text_sink_actor& sink) {
            state.submit(request, sink);
        },
        [&state](grant_atom, std::uint64_t tag, std::uint32_t count, const text_sink_actor& sink) {
            state.grant(tag, count, sink);
        },
        [&state](cancel_atom, std::uint64_t tag, const text_sink_actor& sink) { state.cancel(tag, sink); },
        [&state](drain_atom) { return state.drain(); },
        [&state](stats_atom) { return state.statistics(); },
        [&state](listen_atom, const std::string& protocol, const std::string& address) {
            return state.listen(protocol, address);
        },
        [&state](const output_batch_ptr& batch) { state.deliver(*batch); },
        [&state](intake_atom, const intake_actor& intake) { state.use_intake(intake); },
    };
}

} // namespace

runtime_actor spawn_embedding_session(caf::actor_system& system, const embedding_session_options& options) {
    return spawn_part<session_self, session_state>(system, embedding_session, options);
}

} // namespace moira
