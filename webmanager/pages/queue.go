package pages

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"latchkey/store"
	"latchkey/webmanager"
)

// queuePages are about deliveries that wait.
func (s *Server) queuePages() []pageRoute {
	return []pageRoute{
		{"GET /queue", "GET /v1/queue", (*exchange).listQueue},
		{"GET /queue/{id}", "GET /v1/queue/{id}", (*exchange).showJob},
		{"GET /queue/act", "POST /v1/queue/retry", (*exchange).askQueue},
		{"POST /queue/act", "POST /v1/queue/retry", (*exchange).actOnQueue},
	}
}

const (
	// maxQueueAct bounds the deliveries that one form acts on; beyond it the search is to be narrowed.
	maxQueueAct = 20_000
	// queueExamples is how many of them are shown before it is done.
	queueExamples = 10
)

// queueVerbs are what can be done to deliveries, in the order of the form.
var queueVerbs = []string{"retry", "hold", "release", "remove"}

// queueFields are the fields of the search, queueNarrow those that the owner of a mailbox has.
var (
	queueFields = []string{"sender", "recipient", "submitter", "message", "destination", "host", "held"}
	queueNarrow = []string{"recipient", "held"}
)

// queueData is a page of the queue.
type queueData struct {
	webmanager.QueuePage
	Query url.Values
	Verbs []string
	// First is set where nothing comes before; More is the address of the page after.
	First bool
	More  string
	// Asked is set where something was searched for.
	Asked bool
}

// Field is what was searched for in a field.
func (d queueData) Field(name string) string { return d.Query.Get(name) }

// queueQuery is what was searched for, of the fields that there are for whoever asks.
func (x *exchange) queueQuery(typed url.Values) url.Values {
	fields := queueFields
	if x.actor.Role < webmanager.RoleOwner {
		fields = queueNarrow
	}
	query := url.Values{}
	for _, name := range fields {
		if text := strings.TrimSpace(typed.Get(name)); text != "" {
			query.Set(name, text)
		}
	}
	return query
}

func (x *exchange) listQueue() error {
	typed := x.r.URL.Query()
	data := queueData{Query: x.queueQuery(typed), Verbs: queueVerbs, First: typed.Get("after") == ""}
	data.Asked = len(data.Query) > 0
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
	for name, values := range data.Query {
		query[name] = values
	}
	if !data.First {
		query.Set("after", typed.Get("after"))
	}
	show := func(x *exchange) error { return x.show("queue", x.t("queue.title"), data) }
	if err := x.get(webmanager.Path("queue"), query, &data.QueuePage); err != nil {
		return x.again(err, show)
	}
	if data.Next != 0 {
		more := url.Values{"after": {strconv.FormatUint(uint64(data.Next), 10)}}
		for name, values := range data.Query {
			more[name] = values
		}
		data.More = "/queue?" + more.Encode()
	}
	return show(x)
}

func (x *exchange) showJob() error {
	var job store.Job
	if err := x.get(webmanager.Path("queue", x.r.PathValue("id")), nil, &job); err != nil {
		return err
	}
	return x.show("job", x.t("queue.of", job.Recipient.String()), job)
}

// queueAct is what a form is about to do, or did.
type queueAct struct {
	Verb string
	// Query is what is searched for, IDs the deliveries that were ticked; UpTo leaves out what came into the queue since they were counted.
	Query url.Values
	IDs   []store.JobID
	UpTo  store.JobID
	// Count is how many it is done to, Left how many of those that were ticked are left as they are or gone; Jobs are some.
	Count, Left int
	Jobs        []store.Job
	// TooMany is set where there are more than maxQueueAct.
	TooMany bool
}

// Fields are the names and values of the search, for the next form.
func (d *queueAct) Fields() map[string]string {
	fields := map[string]string{}
	for name := range d.Query {
		fields[name] = d.Query.Get(name)
	}
	return fields
}

// takes reports whether a verb has anything to do to a delivery.
func (d *queueAct) takes(j store.Job) bool {
	switch d.Verb {
	case "retry":
		return !j.Held
	case "release":
		return j.Held
	}
	return true
}

// note counts a delivery.
func (d *queueAct) note(j store.Job) {
	if d.Count++; len(d.Jobs) < queueExamples {
		d.Jobs = append(d.Jobs, j)
	}
	d.UpTo = max(d.UpTo, j.ID)
}

// readQueueAct reads what is to be done to which deliveries: all that a search finds, or those that were ticked.
func (x *exchange) readQueueAct(typed url.Values) (*queueAct, error) {
	d := &queueAct{Verb: typed.Get("verb")}
	if !slices.Contains(queueVerbs, d.Verb) {
		return nil, &webmanager.Error{Code: webmanager.CodeInvalid, Message: x.t("error.form")}
	}
	if typed.Get("all") == "yes" {
		d.Query = x.queueQuery(typed)
		return d, nil
	}
	for _, text := range typed["id"] {
		id, err := strconv.ParseUint(text, 10, 64)
		if err != nil || id == 0 || len(d.IDs) == webmanager.MaxActionIDs {
			return nil, &webmanager.Error{Code: webmanager.CodeInvalid, Message: x.t("error.form")}
		}
		d.IDs = append(d.IDs, store.JobID(id))
	}
	if len(d.IDs) == 0 {
		return nil, &webmanager.Error{Code: webmanager.CodeInvalid, Message: x.t("queue.noneticked")}
	}
	return d, nil
}

// askQueue says how many deliveries it would be done to, and asks.
func (x *exchange) askQueue() error {
	d, err := x.readQueueAct(x.r.URL.Query())
	if err != nil {
		return err
	}
	for _, id := range d.IDs {
		var job store.Job
		err := x.get(webmanager.Path("queue", strconv.FormatUint(uint64(id), 10)), nil, &job)
		switch {
		case isCode(err, webmanager.CodeNotFound), err == nil && !d.takes(job):
			d.Left++
		case err != nil:
			return err
		default:
			d.note(job)
		}
	}
	if d.Query != nil {
		err := x.eachJobPage(d, func(jobs []store.Job) error {
			for _, j := range jobs {
				d.note(j)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return x.show("queueact", x.t("queue.ask."+d.Verb), d)
}

// eachJobPage gives the deliveries that a search finds and the verb takes, page by page.
func (x *exchange) eachJobPage(d *queueAct, do func([]store.Job) error) error {
	return d.eachPage(func(query url.Values) (page webmanager.QueuePage, err error) {
		err = x.get(webmanager.Path("queue"), query, &page)
		return page, err
	}, do)
}

// eachPage is eachJobPage over the pages that ask gives. It ends before those that would be more than maxQueueAct, and notes that.
func (d *queueAct) eachPage(ask func(url.Values) (webmanager.QueuePage, error), do func([]store.Job) error) error {
	query := url.Values{"limit": {strconv.Itoa(webmanager.MaxActionIDs)}}
	for name, values := range d.Query {
		query[name] = values
	}
	if d.UpTo != 0 {
		query.Set("up_to", strconv.FormatUint(uint64(d.UpTo), 10))
	}
	for seen := 0; ; {
		page, err := ask(query)
		if err != nil {
			return err
		}
		jobs := slices.DeleteFunc(page.Jobs, func(j store.Job) bool { return !d.takes(j) })
		if seen += len(jobs); seen > maxQueueAct {
			d.TooMany = true
			return nil
		}
		if len(jobs) > 0 {
			if err := do(jobs); err != nil {
				return err
			}
		}
		if page.Next == 0 {
			return nil
		}
		query.Set("after", strconv.FormatUint(uint64(page.Next), 10))
	}
}

// actOnQueue does what askQueue asked about. What came into the queue meanwhile is left alone.
func (x *exchange) actOnQueue() error {
	d, err := x.readQueueAct(x.r.PostForm)
	if err != nil {
		return err
	}
	if upTo, err := strconv.ParseUint(x.form("up_to"), 10, 64); err == nil {
		d.UpTo = store.JobID(upTo)
	} else if d.Query != nil {
		return &webmanager.Error{Code: webmanager.CodeInvalid, Message: x.t("error.form")}
	}
	body := webmanager.QueueAction{Bounce: d.Verb == "remove" && x.form("bounce") != ""}
	if d.Verb == "hold" || body.Bounce {
		body.Reason = strings.TrimSpace(x.form("reason"))
	}
	done, left := 0, 0
	act := func(ids []store.JobID) error {
		var result webmanager.QueueResult
		body.IDs = ids
		if err := x.do(http.MethodPost, webmanager.Path("queue", d.Verb), body, &result); err != nil {
			return err
		}
		done, left = done+len(result.Done), left+len(result.Gone)+len(result.Refused)
		return nil
	}
	if d.Query == nil {
		err = act(d.IDs)
	} else {
		err = x.eachJobPage(d, func(jobs []store.Job) error {
			ids := make([]store.JobID, len(jobs))
			for i, j := range jobs {
				ids[i] = j.ID
			}
			return act(ids)
		})
	}
	if err != nil {
		return err
	}
	sentence := x.t("queue.done."+d.Verb, done)
	if left > 0 {
		sentence += " " + x.t("queue.left", left)
	}
	return x.done("/queue", sentence)
}
