#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"
#include "core/sample/sampler.hpp"
#include "plugins/moira_plugin.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace moira {

/// A row whose logits are wanted and the token to be sampled from them. The rows of a draft are sampled one after another:
/// each as if the drafted tokens before it were part of the text.
struct sample_request {
    request_id request;
    std::int32_t row = 0;             ///< of the step
    std::int64_t position = 0;        ///< absolute position of the token to be sampled
    sampling_parameters sampling;
    std::vector<token_id> history;    ///< for the repetition penalty; empty when it is 1
    bool follows_draft = false;       ///< the row holds a drafted token: the hash goes on from the sample before this one
    logits_hash hash;                 ///< state before this token; of a row that follows a draft not used
};

/// The rows of one sequence, for a stream that drafts with the model itself.
struct draft_request {
    request_id request;
    std::int32_t row_first = 0, rows = 0;           ///< of the step; drafted ones are the last `samples` - 1
    std::int32_t sample_first = 0, samples = 0;     ///< of the plan; none: the rows end inside the prompt
    token_id next = 0;                              ///< behind the last row, where that is not sampled
    std::int32_t page_table_offset = 0, pages = 0;  ///< slots that the sequence has, also behind its rows
    std::int32_t tokens_max = 0;                    ///< to offer
};

/// One forward of a batch: immutable, shared between the batcher and the stream. Arrays have one entry per row and are
/// laid out as kernels read them. Rows of one sequence are consecutive and ascend in position.
struct step_plan {
    std::uint64_t number = 0;
    std::vector<token_id> tokens;
    std::vector<request_id> requests;  ///< whose row it is; empty: nobody says
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> slots;  ///< token slot in the KV pool: page * page_tokens + position % page_tokens
    std::vector<moira_attention_row> attention_rows;
    std::vector<std::int32_t> page_table;  ///< pages of all sequences, one after another
    std::vector<sample_request> samples;
    std::vector<draft_request> draft_requests;  ///< one per sequence where the model drafts, otherwise none
    std::vector<request_id> ended;  ///< requests, since the plan before: what is known of them may go
    std::int32_t sequences = 0;
    bool holds_drafts = false;  ///< the next step waits for the verifier's verdict
    bool to_verify = false;  ///< the verifier wants to see it: it holds drafts or samples of texts that are followed

    std::int32_t rows() const noexcept { return static_cast<std::int32_t>(tokens.size()); }
};

struct sampled_token {
    request_id request;
    token_id token = 0;
    logits_hash hash;  ///< state with this token's row
};

/// Tokens that the model itself expects next: behind the one that was sampled last for the request.
struct offered_draft {
    request_id request;
    std::vector<token_id> tokens;
};

/// What the stream answers. With `failure` set, no token of the step counts; requests without a row among `failed_rows`
/// may be computed again.
struct step_result {
    std::uint64_t number = 0;
    std::vector<sampled_token> samples;
    std::vector<offered_draft> offered;
    std::optional<error> failure;
    std::vector<std::int32_t> failed_rows;  ///< whom the failure concerns, ascending; none: all
    double compute_s = 0;  ///< inside the forward pass and sampling
    double stall_s = 0;    ///< of that: waiting for experts
    double draft_pass_s = 0;  ///< of one more token drafted by the model for all sequences that wanted it; 0: none was
    bool drafting_failed = false;  ///< the model's drafting pass failed: nothing is offered
};

}  // namespace moira
