#include "core/text/jinja_parser.hpp"

#include "core/text/jinja_expression_parser.hpp"

#include <initializer_list>

namespace moira {
namespace {

class statement_parser {
public:
    statement_parser(std::string_view source, std::size_t depth_max)
        : cursor_(read_jinja_tokens(source)), expressions_(cursor_, depth_max), depth_max_(depth_max) {}

    jinja_body read() {
        jinja_body body = read_body({});
        if (!cursor_.at(jinja_token_kind::end))
            cursor_.wrong("no tag that ends a block which never began");
        return body;
    }

private:
    using kind = jinja_statement::kind;

    bool at_tag(std::string_view name) const {
        return cursor_.at(jinja_token_kind::tag_begin) && cursor_.peek(1).kind == jinja_token_kind::name &&
               cursor_.peek(1).text == name;
    }

    bool at_any_tag(std::initializer_list<std::string_view> names) const {
        for (const std::string_view name : names)
            if (at_tag(name))
                return true;
        return false;
    }

    bool accept_tag(std::string_view name) {
        if (!at_tag(name))
            return false;
        cursor_.take();
        cursor_.take();
        return true;
    }

    void end_tag() { cursor_.expect(jinja_token_kind::tag_end, "the end of the tag, %}"); }

    void expect_tag(std::string_view name) {
        if (!accept_tag(name))
            cursor_.wrong("{% " + std::string(name) + " %}");
        end_tag();
    }

    jinja_statement make(kind what) const {
        jinja_statement made;
        made.what = what;
        made.line = cursor_.line();
        return made;
    }

    /// Statements up to one of the tags in `ends`, which stays.
    jinja_body read_body(std::initializer_list<std::string_view> ends) {
        if (++depth_ > depth_max_)
            jinja_fail_at(errc::corrupt_file, cursor_.line(),
                          "blocks nested deeper than " + std::to_string(depth_max_) + " levels");
        jinja_body body;
        while (!cursor_.at(jinja_token_kind::end) && !at_any_tag(ends)) {
            if (cursor_.at(jinja_token_kind::text)) {
                body.push_back(make(kind::text));
                body.back().text = cursor_.take().text;
            } else if (cursor_.at(jinja_token_kind::output_begin)) {
                body.push_back(make(kind::output));
                cursor_.take();
                body.back().value = expressions_.read_with_commas();
                cursor_.expect(jinja_token_kind::output_end, "the end of the output, }}");
            } else {
                body.push_back(read_tag());
            }
        }
        --depth_;
        return body;
    }

    jinja_statement read_tag() {
        if (accept_tag("if"))
            return read_if();
        if (accept_tag("for"))
            return read_for();
        if (accept_tag("set"))
            return read_set();
        if (accept_tag("generation"))
            return read_generation();
        for (const auto& [name, what] : {std::pair{"break", kind::leave_loop}, {"continue", kind::next_iteration}})
            if (at_tag(name))
                return read_jump(name, what);
        cursor_.take();
        if (!cursor_.at(jinja_token_kind::name))
            cursor_.wrong("the name of a tag");
        const std::string& name = cursor_.peek().text;
        if (name.substr(0, 3) == "end" || name == "else" || name == "elif")
            jinja_fail_at(errc::corrupt_file, cursor_.line(), "{% " + name + " %} without its beginning");
        jinja_fail_at(errc::unsupported, cursor_.line(), "the tag '" + name + "'");
    }

    jinja_statement read_if() {
        jinja_statement made = make(kind::condition);
        do {
            jinja_statement::branch branch;
            branch.condition = expressions_.read_with_commas();
            end_tag();
            expressions_.enter_branch();
            branch.body = read_body({"elif", "else", "endif"});
            expressions_.leave_branch();
            made.branches.push_back(std::move(branch));
        } while (accept_tag("elif"));
        if (accept_tag("else")) {
            end_tag();
            expressions_.enter_branch();
            made.else_body = read_body({"endif"});
            expressions_.leave_branch();
        }
        expect_tag("endif");
        return made;
    }

    jinja_statement read_for() {
        jinja_statement made = make(kind::loop);
        const bool bracket = cursor_.accept_symbol("(");
        do
            made.targets.push_back(cursor_.expect_name("the name of a loop variable"));
        while (cursor_.accept_symbol(","));
        if (bracket)
            cursor_.expect_symbol(")");
        if (!cursor_.accept_name("in"))
            cursor_.wrong("'in'");
        made.value = expressions_.read(false);
        if (cursor_.accept_name("if"))
            made.filter = expressions_.read();
        if (cursor_.at_name("recursive"))
            jinja_fail_at(errc::unsupported, cursor_.line(), "a recursive loop");
        end_tag();
        ++loops_;
        made.body = read_body({"else", "endfor"});
        --loops_;
        if (accept_tag("else")) {
            end_tag();
            made.else_body = read_body({"endfor"});
        }
        expect_tag("endfor");
        return made;
    }

    jinja_statement read_set() {
        jinja_statement made = make(kind::assignment);
        made.targets.push_back(cursor_.expect_name("the name of a variable"));
        if (cursor_.accept_symbol(".")) {
            made.what = kind::set_attribute;
            made.text = cursor_.expect_name("the name of an attribute");
        }
        while (made.what == kind::assignment && cursor_.accept_symbol(","))
            made.targets.push_back(cursor_.expect_name("the name of a variable"));
        if (cursor_.accept_symbol("=")) {
            made.value = expressions_.read_with_commas();
            end_tag();
            return made;
        }
        if (made.what == kind::set_attribute || made.targets.size() > 1)
            cursor_.wrong("'='");
        if (cursor_.at_symbol("|"))
            jinja_fail_at(errc::unsupported, cursor_.line(), "a {% set %} block with a filter");
        made.what = kind::capture;
        end_tag();
        made.body = read_body({"endset"});
        expect_tag("endset");
        return made;
    }

    /// transformers marks the assistant's words with it, for training; a prompt reads as if it were not there.
    jinja_statement read_generation() {
        jinja_statement made = make(kind::group);
        end_tag();
        made.body = read_body({"endgeneration"});
        expect_tag("endgeneration");
        return made;
    }

    jinja_statement read_jump(const char* name, kind what) {
        jinja_statement made = make(what);
        if (loops_ == 0)
            jinja_fail_at(errc::corrupt_file, cursor_.line(), "{% " + std::string(name) + " %} outside of a loop");
        expect_tag(name);
        return made;
    }

    jinja_cursor cursor_;
    jinja_expression_parser expressions_;
    std::size_t depth_max_;
    std::size_t depth_ = 0;
    std::size_t loops_ = 0;
};

} // namespace

jinja_body parse_jinja(std::string_view source, std::size_t depth_max) {
    return statement_parser(source, depth_max).read();
}

} // namespace moira
