-- setup given_away: everything of osmtalk's belongs to a superuser
REASSIGN OWNED BY osmtalk_owner TO CURRENT_USER;
