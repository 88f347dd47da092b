package doctor

// What is hard to bring a server to is judged on figures.
var (
	JudgeVersion = judgeVersion //nolint:gochecknoglobals // for tests
	JudgeQueue   = judgeQueue   //nolint:gochecknoglobals // for tests
)
