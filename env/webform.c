/* webform: a page as text, `1 input city` a line, and an instruction to follow: type 1 oslo, click 2, submit. A wrong form
 * that is sent ends the episode without reward. At level 4 the page asks for its shop's secret phrase, which only the hint
 * tells; with the variant `random-secret` the phrase is another one in every episode, so that it cannot be learned. */
#include "env/webform.h"
#include "env/builtin.h"

#define MAGIC 0x464f524du

struct webform {
    uint32_t magic;
    bool over;
    bool secret; /* level 4 */
    struct webform_page page;
};

static const char *const words[] = {
    "name",  "city",   "mail",  "phone", "color",  "size",  "date",  "team",  "food",   "song",   "book",   "plan",
    "red",   "blue",   "green", "gold",  "fox",    "owl",   "bear",  "wolf",  "moon",   "star",   "rain",   "snow",
    "stone", "river",  "apple", "bread", "anna",   "boris", "clara", "david", "emma",   "frank",  "greta",  "henry",
    "oslo",  "rome",   "paris", "lima",  "cairo",  "tokyo", "delhi", "quito", "acorn",  "bazaar", "corner", "dockside",
    "send",  "save",   "order", "set",   "phrase", "from",  "input", "box",   "button", "next",   "back",   "type",
    "click", "submit", "on",    "off",   "ok",     "no",    "wrong", "done",  NULL};

static const char *const variants[] = {"random-secret", NULL};
static const struct kit_rules rules = {"webform", WEBFORM_LEVELS, WEBFORM_SECRET_LEVEL - 1, variants};

static const struct webform *of(const void *state)
{
    const struct webform *self = state;
    BUG_IF(self->magic != MAGIC);
    return self;
}

/* ---- texts ---- */

static void show_page(const struct webform_page *page, char *text, size_t size)
{
    static const char *const kinds[WEBFORM_KIND_COUNT] = {"input", "box", "button next", "button back", "button"};
    size_t id = 0;
    for (size_t i = 0; i < page->count; i++) {
        const struct webform_element *e = &page->elements[i];
        if (e->page != page->current) continue;
        kit_text(text, size, "%s%zu %s", id ? "\n" : "", id + 1, kinds[e->kind]);
        id++;
        if (e->kind == WEBFORM_KIND_INPUT || e->kind == WEBFORM_KIND_BOX)
            kit_text(text, size, " %s", webform_labels[e->label]);
        if (e->kind == WEBFORM_KIND_SUBMIT) kit_text(text, size, " %s", webform_submits[e->label]);
        if (e->kind == WEBFORM_KIND_INPUT && e->value[0]) kit_text(text, size, " %s", e->value);
        if (e->kind == WEBFORM_KIND_BOX && e->on) kit_text(text, size, " on");
    }
}

/* In page order: a small model learns to copy in step, not to look up (measured: 0.2 against 0.9 at level 2). */
static void show_instruction(const struct webform *self, char *text, size_t size)
{
    const struct webform_page *page = &self->page;
    if (self->secret) {
        kit_text(text, size, "%s %s, %s from %s\n", webform_shops[page->shop], webform_labels[page->department],
                 webform_values[page->user], webform_values[page->city]);
        return;
    }
    kit_text(text, size, "set");
    for (size_t i = 0; i < page->count; i++) {
        const struct webform_element *e = &page->elements[i];
        if (e->kind == WEBFORM_KIND_INPUT && e->wanted[0])
            kit_text(text, size, " %s %s", webform_labels[e->label], e->wanted);
        if (e->kind == WEBFORM_KIND_BOX && e->wanted_on) kit_text(text, size, " %s on", webform_labels[e->label]);
    }
    kit_text(text, size, "\n");
}

/* ---- the page at work ---- */

static bool is_right(const struct webform_element *e)
{
    if (e->kind == WEBFORM_KIND_INPUT) return strcmp(e->value, e->wanted) == 0;
    return e->kind != WEBFORM_KIND_BOX || e->on == e->wanted_on;
}

static void send_form(struct webform *self, struct env_obs *ret)
{
    bool right = true;
    for (size_t i = 0; i < self->page.count; i++) right = right && is_right(&self->page.elements[i]);
    self->over = true;
    kit_end(ret, right ? "done" : "wrong", right ? 1 : 0);
}

static void turn_page(struct webform *self, uint8_t to, struct env_obs *ret)
{
    self->page.current = to;
    kit_answer(ret, "");
    show_page(&self->page, ret->text, sizeof ret->text);
}

static void click(struct webform *self, struct webform_element *e, struct env_obs *ret)
{
    switch ((enum webform_kind)e->kind) {
    case WEBFORM_KIND_BOX:
        e->on = !e->on;
        kit_answer(ret, e->on ? "on" : "off");
        break;
    case WEBFORM_KIND_NEXT:
        turn_page(self, 1, ret);
        break;
    case WEBFORM_KIND_BACK:
        turn_page(self, 0, ret);
        break;
    case WEBFORM_KIND_SUBMIT:
        send_form(self, ret);
        break;
    case WEBFORM_KIND_INPUT:
    case WEBFORM_KIND_COUNT:
        kit_answer(ret, "no");
        break;
    }
}

/* What is typed is echoed by pages shown later, so only printable bytes are kept, and single spaces. */
static void type_value(struct webform_element *e, struct span value)
{
    e->value[0] = '\0';
    for (struct span rest = value; rest.size;) {
        struct span word = kit_word(&rest);
        if (e->value[0]) kit_text(e->value, sizeof e->value, " ");
        for (size_t i = 0; i < word.size; i++) {
            uint8_t c = word.data[i];
            kit_text(e->value, sizeof e->value, "%c", c > 0x20 && c < 0x7f ? c : '?');
        }
    }
}

static size_t read_id(struct span text)
{
    return text.size == 1 && text.data[0] >= '1' && text.data[0] <= '9' ? (size_t)(text.data[0] - '0') : 0;
}

static bool submit_shown(const struct webform_page *page)
{
    for (size_t i = 0; i < page->count; i++) {
        if (page->elements[i].kind == WEBFORM_KIND_SUBMIT) return page->elements[i].page == page->current;
    }
    return false;
}

/* ---- the contract ---- */

static err_t generate(int32_t level, uint64_t seed, const char *variant, struct env_task *ret)
{
    return kit_generate(&rules, level, seed, variant, ret);
}

static err_t mutate(const struct env_task *task, enum env_mutation kind, uint64_t seed, struct env_task *ret)
{
    return kit_mutate(&rules, task, kind, seed, ret);
}

static err_t reset(void *state, struct span task_text, uint64_t episode_seed, struct env_obs *ret)
{
    struct kit_task task;
    TRY(kit_parse(&rules, task_text, &task));
    struct webform *self = state;
    *self = (struct webform){.magic = MAGIC, .secret = task.level == WEBFORM_SECRET_LEVEL};
    webform_draw(&task, task.variant != NULL, episode_seed, &self->page);
    kit_answer(ret, "");
    show_instruction(self, ret->text, sizeof ret->text);
    show_page(&self->page, ret->text, sizeof ret->text);
    return ERR_ok;
}

static err_t step(void *state, struct span action, struct env_obs *ret)
{
    struct webform *self = state;
    BUG_IF(self->magic != MAGIC);
    if (self->over) return err_set(ERR_conflict, "webform: the episode is over");
    struct span rest = kit_trim(action);
    struct span verb = kit_word(&rest);
    if (span_is(verb, "submit") && rest.size == 0 && submit_shown(&self->page)) {
        send_form(self, ret);
        return ERR_ok;
    }
    struct webform_element *e = webform_element(&self->page, read_id(kit_word(&rest)));
    if (e && span_is(verb, "click") && rest.size == 0) {
        click(self, e, ret);
    } else if (e && span_is(verb, "type") && e->kind == WEBFORM_KIND_INPUT) {
        type_value(e, rest);
        kit_answer(ret, "ok");
    } else {
        kit_answer(ret, "no");
    }
    return ERR_ok;
}

/* ---- the expert ---- */

static void fill(const struct webform_page *page, const struct webform_element *e, char *action)
{
    size_t id = webform_id(page, e);
    if (e->kind == WEBFORM_KIND_INPUT)
        kit_text(action, ENV_ACTION_BYTES, "type %zu%s%s", id, e->wanted[0] ? " " : "", e->wanted);
    else if (e->kind == WEBFORM_KIND_SUBMIT)
        kit_text(action, ENV_ACTION_BYTES, "submit");
    else
        kit_text(action, ENV_ACTION_BYTES, "click %zu", id);
}

/* The first wrong element of this page, in page order; else the way on: back to a wrong page, next, submit. */
static const struct webform_element *to_do(const struct webform_page *page)
{
    bool wrong_elsewhere = false;
    for (size_t i = 0; i < page->count; i++) {
        const struct webform_element *e = &page->elements[i];
        if (is_right(e)) continue;
        if (e->page == page->current) return e;
        wrong_elsewhere = true;
    }
    enum webform_kind kind = page->current == 1 && wrong_elsewhere ? WEBFORM_KIND_BACK : WEBFORM_KIND_SUBMIT;
    for (size_t i = 0; i < page->count; i++) {
        const struct webform_element *e = &page->elements[i];
        if (e->page == page->current && (e->kind == kind || e->kind == WEBFORM_KIND_NEXT)) return e;
    }
    return page->elements;
}

/* A value that the instruction names, though maybe another element's: a demonstration of random words would teach an agent
 * not to copy. Where the phrase is secret there is nothing to copy: random words. */
static void mistype(const struct webform *self, struct rng *rng, char *value, size_t size)
{
    const struct webform_page *page = &self->page;
    const char *named[WEBFORM_ELEMENTS];
    uint32_t count = 0;
    for (size_t i = 0; i < page->count; i++) {
        if (page->elements[i].wanted[0]) named[count++] = page->elements[i].wanted;
    }
    if (!self->secret && count > 0) {
        kit_text(value, size, "%s", named[rng_below(rng, count)]);
        return;
    }
    for (size_t i = 0; i < WEBFORM_PHRASE; i++)
        kit_text(value, size, "%s%s", i ? " " : "", webform_values[rng_below(rng, WEBFORM_PHRASE_WORDS)]);
}

static void stumble(const struct webform *self, struct rng *rng, char *action)
{
    const struct webform_page *page = &self->page;
    const struct webform_element *here[WEBFORM_ELEMENTS];
    uint32_t count = 0;
    for (size_t i = 0; i < page->count; i++) {
        if (page->elements[i].page == page->current) here[count++] = &page->elements[i];
    }
    if (count == 0) return;
    const struct webform_element *chosen = here[rng_below(rng, count)];
    if (chosen->kind != WEBFORM_KIND_INPUT) {
        fill(page, chosen, action);
        return;
    }
    char value[WEBFORM_VALUE_BYTES] = "";
    mistype(self, rng, value, sizeof value);
    kit_text(action, ENV_ACTION_BYTES, "type %zu %s", webform_id(page, chosen), value);
}

static void expert(const void *state, double noise, struct rng *rng, char *action)
{
    const struct webform *self = of(state);
    action[0] = '\0';
    if (rng_unit(rng) < noise)
        stumble(self, rng, action);
    else
        fill(&self->page, to_do(&self->page), action);
}

/* The phrase at level 4; below it the page and the instruction say everything. */
static void hint(const void *state, char *text)
{
    const struct webform *self = of(state);
    text[0] = '\0';
    if (self->secret) kit_text(text, ENV_HINT_BYTES, "phrase %s", self->page.elements[0].wanted);
}

static err_t digest(const void *state, struct digest *ret)
{
    /* the page as it was at the reset */
    struct webform first = *of(state);
    char text[ENV_TEXT_BYTES] = "webform ";
    first.page.current = 0;
    for (size_t i = 0; i < first.page.count; i++) {
        first.page.elements[i].on = false;
        first.page.elements[i].value[0] = '\0';
    }
    show_instruction(&first, text, sizeof text);
    for (uint8_t page = 0; page < WEBFORM_PAGES; page++) {
        first.page.current = page;
        show_page(&first.page, text, sizeof text);
        kit_text(text, sizeof text, "\n");
    }
    return digest_bytes(span_text(text), ret);
}

const struct env_class env_webform = {
    .name = "webform",
    .doc = "a page of form elements and an instruction; level 4 wants a shop's secret phrase",
    .levels = WEBFORM_LEVELS,
    .max_steps = 12,
    .state_bytes = sizeof(struct webform),
    .words = words,
    .generate = generate,
    .mutate = mutate,
    .reset = reset,
    .step = step,
    .expert = expert,
    .hint = hint,
    .digest = digest,
};
