package cli

import "keystone/cmd/internal/api"

func (a *App) restartCommand() *command {
	o := operateOptions{verb: api.Restart}
	cmd := a.operateCommand(&o, "Start routes anew",
		"Finishes what a running route has in flight and starts it again at once, from its positions; a\n"+
			"drained one starts, a paused one stays paused.\n"+
			"A route whose topic was deleted and created again stops: its positions mean other records.\n"+
			"With -accept-new-topic they are dropped, and the new topic is read from its beginning; that is asked about.")
	cmd.Flags().BoolVar(&o.acceptNewTopic, "accept-new-topic", false, "drop the positions in a topic that is no more")
	return cmd
}
